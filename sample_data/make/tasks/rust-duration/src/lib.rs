// SPDX-License-Identifier: Apache-2.0
//! Parse and print durations such as `1h30m` or `2d 4h`.

mod format;
mod parse;

pub use format::format_seconds;
pub use parse::{parse_seconds, ParseError};
