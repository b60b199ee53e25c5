// SPDX-License-Identifier: Apache-2.0
use span::{format_seconds, parse_seconds, ParseError};

#[test]
fn simple() {
    assert_eq!(parse_seconds("1h30m"), Ok(5400));
    assert_eq!(parse_seconds("2d 4h"), Ok(187_200));
}

#[test]
fn errors() {
    assert_eq!(parse_seconds(""), Err(ParseError::Empty));
    assert_eq!(parse_seconds("12"), Err(ParseError::MissingUnit));
    assert_eq!(parse_seconds("3y"), Err(ParseError::UnknownUnit('y')));
}

#[test]
fn long_durations() {
    assert_eq!(parse_seconds("10000w"), Ok(6_048_000_000));
    assert_eq!(parse_seconds("5000000000s"), Ok(5_000_000_000));
}

#[test]
fn too_long_is_an_error() {
    assert_eq!(parse_seconds("99999999999999999999s"), Err(ParseError::TooLarge));
    assert_eq!(parse_seconds("18446744073709551615w"), Err(ParseError::TooLarge));
}

#[test]
fn round_trip() {
    for seconds in [1, 59, 3600, 90_061, 6_048_000_000] {
        assert_eq!(parse_seconds(&format_seconds(seconds)), Ok(seconds));
    }
}
