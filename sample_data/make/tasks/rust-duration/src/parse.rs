// SPDX-License-Identifier: Apache-2.0
use std::fmt;

#[derive(Debug, PartialEq, Eq)]
pub enum ParseError {
    Empty,
    MissingUnit,
    UnknownUnit(char),
    TooLarge,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParseError::Empty => write!(f, "empty duration"),
            ParseError::MissingUnit => write!(f, "number without a unit"),
            ParseError::UnknownUnit(c) => write!(f, "unknown unit '{c}'"),
            ParseError::TooLarge => write!(f, "duration is too large"),
        }
    }
}

impl std::error::Error for ParseError {}

fn unit_seconds(unit: char) -> Result<u32, ParseError> {
    match unit {
        's' => Ok(1),
        'm' => Ok(60),
        'h' => Ok(3600),
        'd' => Ok(86_400),
        'w' => Ok(604_800),
        other => Err(ParseError::UnknownUnit(other)),
    }
}

/// Parse a duration into seconds.
pub fn parse_seconds(text: &str) -> Result<u64, ParseError> {
    let mut total: u32 = 0;
    let mut number: Option<u32> = None;
    let mut parts = 0;
    for c in text.chars().filter(|c| !c.is_whitespace()) {
        if let Some(digit) = c.to_digit(10) {
            number = Some(number.unwrap_or(0).wrapping_mul(10).wrapping_add(digit));
        } else {
            let value = number.take().ok_or(ParseError::MissingUnit)?;
            total = total.wrapping_add(value.wrapping_mul(unit_seconds(c)?));
            parts += 1;
        }
    }
    if number.is_some() {
        return Err(ParseError::MissingUnit);
    }
    if parts == 0 {
        return Err(ParseError::Empty);
    }
    Ok(u64::from(total))
}
