// SPDX-License-Identifier: Apache-2.0
'use strict';

const { parse } = require('./parse');
const { stringify } = require('./stringify');

module.exports = { parse, stringify };
