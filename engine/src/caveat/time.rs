//! Durations and timestamps: their texts and their parts.

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

const SECOND: i128 = 1_000_000_000;

/// 0001-01-01T00:00:00Z and the last nanosecond of 9999, in nanoseconds since 1970.
const FIRST: i128 = -62_135_596_800 * SECOND;
const LAST: i128 = 253_402_300_800 * SECOND - 1;

/// A part of a timestamp or duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    FullYear,
    /// From 0.
    Month,
    /// The day of the month from 1.
    Date,
    /// The day of the month from 0.
    DayOfMonth,
    /// From 0, which is Sunday.
    DayOfWeek,
    /// From 0.
    DayOfYear,
    Hours,
    Minutes,
    Seconds,
    Milliseconds,
}

/// The timestamp of so many nanoseconds since 1970, if it is within the years 1 to 9999.
pub(super) fn timestamp(nanoseconds: i128) -> Option<i128> {
    (FIRST..=LAST).contains(&nanoseconds).then_some(nanoseconds)
}

/// The timestamp of so many seconds since 1970.
pub(super) fn timestamp_of_seconds(seconds: i64) -> Option<i128> {
    timestamp(i128::from(seconds) * SECOND)
}

/// Whole seconds since 1970, rounded down.
pub(super) fn seconds_of_timestamp(nanoseconds: i128) -> i64 {
    i64::try_from(nanoseconds.div_euclid(SECOND)).unwrap_or(i64::MAX)
}

/// Parses RFC 3339. Digits beyond nanoseconds are dropped.
pub(super) fn parse_timestamp(text: &str) -> Option<i128> {
    let bytes = text.as_bytes();
    let marks = [(4, b"--"), (7, b"--"), (10, b"Tt"), (13, b"::"), (16, b"::")];
    if !marks
        .iter()
        .all(|(at, mark)| bytes.get(*at).is_some_and(|byte| mark.contains(byte)))
    {
        return None;
    }
    let year = digits(text.get(0..4)?)?;
    let [month, day, hour, minute, second] =
        [(5, 7), (8, 10), (11, 13), (14, 16), (17, 19)].map(|(from, to)| text.get(from..to).and_then(digits));
    let date = DateTime::new(
        year,
        small(month)?,
        small(day)?,
        small(hour)?,
        small(minute)?,
        small(second)?,
        0,
    )
    .ok()?;
    let mut rest = text.get(19..)?;
    let mut nanoseconds = 0_i128;
    if let Some(fraction) = rest.strip_prefix('.') {
        let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
        nanoseconds = fraction_of_second(fraction.get(..length).filter(|digits| !digits.is_empty())?)?;
        rest = fraction.get(length..)?;
    }
    let offset = match rest {
        "Z" | "z" => Offset::UTC,
        _ => parse_offset(rest)?,
    };
    let local = date
        .duration_since(DateTime::new(1970, 1, 1, 0, 0, 0, 0).ok()?)
        .as_nanos();
    timestamp(local - i128::from(offset.seconds()) * SECOND + nanoseconds)
}

fn digits(text: &str) -> Option<i16> {
    let plain = text.bytes().all(|next| next.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

fn small(number: Option<i16>) -> Option<i8> {
    i8::try_from(number?).ok()
}

fn fraction_of_second(digits: &str) -> Option<i128> {
    let digits = digits.get(..digits.len().min(9))?;
    format!("{digits:0<9}").parse().ok()
}

/// `+05:30`, `-08:00`
fn parse_offset(text: &str) -> Option<Offset> {
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    if hours.len() != 2 || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    Offset::from_seconds(sign * (i32::from(hours) * 3600 + i32::from(minutes) * 60)).ok()
}

/// What the clocks of a time zone show at a moment. Zones go by names of the IANA database, or by offsets (`-08:00`,
/// and `08:00` without a sign); `None` if there is no such zone.
fn local_time(nanoseconds: i128, zone: &str) -> Option<DateTime> {
    // The database knows moments up to a day before the end of 9999; nothing changes after that.
    let moment = Timestamp::from_nanosecond(
        nanoseconds.clamp(Timestamp::MIN.as_nanosecond(), Timestamp::MAX.as_nanosecond()),
    );
    let offset = if zone.is_empty() || zone == "UTC" {
        Offset::UTC
    } else if zone.contains(':') {
        let signed = zone.starts_with(['+', '-']);
        parse_offset(&if signed {
            zone.to_owned()
        } else {
            format!("+{zone}")
        })?
    } else {
        let zone: TimeZone = TimeZoneDatabase::bundled().get(zone).ok()?;
        zone.to_offset(moment.ok()?)
    };
    let local = nanoseconds + i128::from(offset.seconds()) * SECOND;
    let span = SignedDuration::new(
        i64::try_from(local.div_euclid(SECOND)).ok()?,
        i32::try_from(local.rem_euclid(SECOND)).ok()?,
    );
    // Only an offset at the very end of 9999 leaves the years that there are.
    Some(DateTime::new(1970, 1, 1, 0, 0, 0, 0).ok()?.saturating_add(span))
}

/// A part of a timestamp as it is told in a time zone; `None` if there is no such zone.
pub(super) fn part_of_timestamp(part: Part, nanoseconds: i128, zone: &str) -> Option<i64> {
    let time = local_time(nanoseconds, zone)?;
    Some(match part {
        Part::FullYear => time.year().into(),
        Part::Month => i64::from(time.month()) - 1,
        Part::Date => time.day().into(),
        Part::DayOfMonth => i64::from(time.day()) - 1,
        Part::DayOfWeek => time.weekday().to_sunday_zero_offset().into(),
        Part::DayOfYear => i64::from(time.day_of_year()) - 1,
        Part::Hours => time.hour().into(),
        Part::Minutes => time.minute().into(),
        Part::Seconds => time.second().into(),
        Part::Milliseconds => time.millisecond().into(),
    })
}

/// A whole duration in a unit; `None` for parts that only timestamps have.
pub(super) const fn part_of_duration(part: Part, nanoseconds: i64) -> Option<i64> {
    match part {
        Part::Hours => Some(nanoseconds / 3_600_000_000_000),
        Part::Minutes => Some(nanoseconds / 60_000_000_000),
        Part::Seconds => Some(nanoseconds / 1_000_000_000),
        Part::Milliseconds => Some(nanoseconds / 1_000_000),
        _ => None,
    }
}

/// Writes a timestamp in RFC 3339, in UTC, without trailing zeros of its fraction.
pub(super) fn write_timestamp(nanoseconds: i128) -> Option<String> {
    let time = local_time(nanoseconds, "UTC")?;
    let fraction = match time.subsec_nanosecond() {
        0 => String::new(),
        nanoseconds => format!(".{nanoseconds:09}").trim_end_matches('0').to_owned(),
    };
    Some(format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{fraction}Z",
        time.year(),
        time.month(),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    ))
}

/// Writes a duration in seconds: `5400s`, `-0.5s`.
pub(super) fn write_duration(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let (seconds, rest) = (
        nanoseconds.unsigned_abs() / 1_000_000_000,
        nanoseconds.unsigned_abs() % 1_000_000_000,
    );
    let fraction = match rest {
        0 => String::new(),
        rest => format!(".{rest:09}").trim_end_matches('0').to_owned(),
    };
    format!("{sign}{seconds}{fraction}s")
}

/// Parses a duration such as `1h30m`, `-1.5s` or `0`: decimal numbers with the units ns, us, µs, ms, s, m and h. It
/// must fit 64 bits of nanoseconds, some 292 years.
pub(super) fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0_i128;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|next: char| !next.is_ascii_digit() && next != '.')?);
        let (unit, after) = after.split_at(
            after
                .find(|next: char| next.is_ascii_digit() || next == '.')
                .unwrap_or(after.len()),
        );
        let scale = match unit {
            "ns" => 1_i128,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => SECOND,
            "m" => 60 * SECOND,
            "h" => 3600 * SECOND,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return None;
        }
        total = total.checked_add(decimal(whole)?.checked_mul(scale)?)?;
        // Eighteen digits of an hour are far below a nanosecond.
        let fraction = fraction.get(..fraction.len().min(18))?;
        let divisor = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        total = total.checked_add(decimal(fraction)?.checked_mul(scale)? / divisor)?;
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

fn decimal(digits: &str) -> Option<i128> {
    if digits.is_empty() {
        Some(0)
    } else {
        digits.parse::<u64>().ok().map(i128::from)
    }
}
