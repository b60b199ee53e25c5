// SPDX-License-Identifier: Apache-2.0
'use strict';

/** Write one field, in quotes if it needs them (RFC 4180). */
function field(value, separator) {
  if (value === null || value === undefined) return '';
  const text = String(value);
  if (text.includes(separator) || text.includes('\n')) {
    return '"' + text.replace('"', '""') + '"';
  }
  return text;
}

/**
 * Turn rows into CSV text.
 * @param {Array<Array<unknown>>} rows
 * @param {{separator?: string, newline?: string}} [options]
 */
function stringify(rows, options = {}) {
  const separator = options.separator ?? ',';
  const newline = options.newline ?? '\r\n';
  return rows.map((row) => row.map((v) => field(v, separator)).join(separator) + newline).join('');
}

module.exports = { stringify };
