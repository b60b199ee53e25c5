-- A database as OpenCode 2.x keeps it beside the rows of 1.x: by hand, after its published schema.
create table session (id text primary key, project_id text, parent_id text, title text, version text, directory text, agent text, time_created integer, time_updated integer);
create table message (id text primary key, session_id text, time_created integer, time_updated integer, data text);
create table part (id text primary key, message_id text, session_id text, time_created integer, time_updated integer, data text);
create table session_v2 (id text primary key, project_id text, parent_id text, fork_session_id text, fork_boundary text, title text, version text, directory text, agent text, time_created integer, time_updated integer);
create table session_message (id text primary key, session_id text, type text, seq integer, time_created integer, time_updated integer, data text);

insert into session values ('ses_one', 'p', null, 'Older', '1.18.0', '/home/dev/src/c-ring', 'build', 1794000000000, 1794000009000);
insert into message values ('msg_1', 'ses_one', 1794000001000, 0, '{"role":"user","time":{"created":1794000001000}}');
insert into message values ('msg_2', 'ses_one', 1794000002000, 0, '{"role":"assistant","modelID":"m","providerID":"p","finish":"stop","time":{"created":1794000002000,"completed":1794000004000}}');
insert into part values ('prt_1', 'msg_1', 'ses_one', 0, 0, '{"type":"text","text":"Hello."}');
insert into part values ('prt_2', 'msg_2', 'ses_one', 0, 0, '{"type":"step-start"}');
insert into part values ('prt_3', 'msg_2', 'ses_one', 0, 0, '{"type":"text","text":"Good day.","time":{"start":1794000003000,"end":1794000003500}}');
insert into part values ('prt_4', 'msg_2', 'ses_one', 0, 0, '{"type":"step-finish","reason":"stop","tokens":{"input":20,"output":4,"reasoning":0,"cache":{"read":0,"write":0}}}');

-- The same session as 1.x left it, before 2.x took it over: it counts once, as 2.x has it.
insert into session values ('ses_two', 'p', null, 'Left behind', '1.18.0', '/home/dev/src/c-ring', 'build', 1795000000000, 1795000000000);
insert into message values ('msg_3', 'ses_two', 1795000001000, 0, '{"role":"user","time":{"created":1795000001000}}');

insert into session_v2 values ('ses_two', 'p', null, null, null, 'The ring', '2.0.9', '/home/dev/src/c-ring', 'build', 1795000000000, 1795000030000);
insert into session_v2 values ('ses_sub', 'p', 'ses_two', null, null, 'List the files', '2.0.9', '/home/dev/src/c-ring', 'general', 1795000004000, 1795000008000);
insert into session_message values ('msg_a', 'ses_two', 'agent-switched', 1, 1795000000500, 0, '{"agent":"build","time":{"created":1795000000500}}');
insert into session_message values ('msg_b', 'ses_two', 'user', 2, 1795000001000, 0, '{"text":"Where is the ring made?","time":{"created":1795000001000}}');
insert into session_message values ('msg_c', 'ses_two', 'assistant', 3, 1795000002000, 0, '{"agent":"build","model":{"id":"m","providerID":"p"},"content":[{"type":"reasoning","text":"Files first."},{"type":"text","text":"I look."},{"type":"tool","id":"call_1","name":"shell","state":{"status":"completed","input":{"command":"ls src"},"content":[{"type":"text","text":"ring.c\nring.h"}],"metadata":{"exit":0}},"time":{"created":1795000003500,"ran":1795000004000,"completed":1795000004200}}],"finish":"tool-calls","tokens":{"input":200,"output":40,"reasoning":5,"cache":{"read":1000,"write":10}},"time":{"created":1795000002000,"streamed":1795000003900,"completed":1795000004300}}');
insert into session_message values ('msg_d', 'ses_two', 'assistant', 4, 1795000005000, 0, '{"agent":"build","model":{"id":"m","providerID":"p"},"retry":{"attempt":1,"at":1795000005500,"error":{"type":"provider.rate-limit","message":"slow down"}},"content":[{"type":"text","text":"It is made in ring.c."}],"finish":"stop","tokens":{"input":230,"output":12,"reasoning":0,"cache":{"read":1000,"write":0}},"time":{"created":1795000005000,"streamed":1795000007000,"completed":1795000007100}}');
insert into session_message values ('msg_e', 'ses_two', 'assistant', 5, 1795000008000, 0, '{"agent":"build","model":{"id":"m","providerID":"p"},"content":[{"type":"tool","id":"call_2","name":"subagent","state":{"status":"completed","input":{"agent":"general","prompt":"List the files."},"content":[{"type":"text","text":"Two files."}],"metadata":{"sessionID":"ses_sub","status":"completed"}},"time":{"created":1795000008500,"ran":1795000008600,"completed":1795000012000}}],"finish":"tool-calls","tokens":{"input":250,"output":30,"reasoning":0,"cache":{"read":1000,"write":0}},"time":{"created":1795000008000,"streamed":1795000008550,"completed":1795000012100}}');
insert into session_message values ('msg_f', 'ses_two', 'compaction', 6, 1795000013000, 0, '{"status":"completed","reason":"auto","summary":"The ring is made in ring.c.","recent":"[User]: thanks","model":{"id":"m","providerID":"p"},"tokens":{"input":500,"output":60,"reasoning":0,"cache":{"read":1000,"write":0}},"time":{"created":1795000013000}}');
insert into session_message values ('msg_g', 'ses_two', 'user', 7, 1795000020000, 0, '{"text":"And where is it freed?","time":{"created":1795000020000}}');
insert into session_message values ('msg_h', 'ses_two', 'assistant', 8, 1795000021000, 0, '{"agent":"build","model":{"id":"m","providerID":"p"},"content":[{"type":"text","text":"Nowhere."}],"finish":"stop","tokens":{"input":300,"output":3,"reasoning":0,"cache":{"read":0,"write":0}},"time":{"created":1795000021000,"streamed":1795000022000,"completed":1795000022100}}');
insert into session_message values ('msg_i', 'ses_two', 'idle', 9, 1795000022200, 0, '{"outcome":"succeeded","time":{"created":1795000022200}}');
insert into session_message values ('msg_s1', 'ses_sub', 'user', 1, 1795000009000, 0, '{"text":"List the files.","time":{"created":1795000009000}}');
insert into session_message values ('msg_s2', 'ses_sub', 'assistant', 2, 1795000009500, 0, '{"agent":"general","model":{"id":"m","providerID":"p"},"content":[{"type":"text","text":"Two files."}],"finish":"stop","tokens":{"input":90,"output":3,"reasoning":0,"cache":{"read":0,"write":0}},"time":{"created":1795000009500,"streamed":1795000011000,"completed":1795000011100}}');
