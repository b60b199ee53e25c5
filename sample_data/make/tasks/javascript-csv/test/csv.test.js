// SPDX-License-Identifier: Apache-2.0
'use strict';

const test = require('node:test');
const assert = require('node:assert');
const { parse, stringify } = require('..');

test('plain fields stay plain', () => {
  assert.strictEqual(stringify([['a', 1, null]]), 'a,1,\r\n');
});

test('separator in a field', () => {
  assert.strictEqual(stringify([['a,b']]), '"a,b"\r\n');
});

test('every quote is doubled', () => {
  assert.strictEqual(stringify([['say "hi", twice']]), '"say ""hi"", twice"\r\n');
});

test('a lone quote needs quoting too', () => {
  assert.strictEqual(stringify([['6" pipe']]), '"6"" pipe"\r\n');
});

test('what is written can be read', () => {
  const rows = [['a"b"c', 'd\r\ne', ''], ['"', 'x;y', ' z ']];
  assert.deepStrictEqual(parse(stringify(rows)), rows);
});
