//! The `strftime_now` function of chat templates: some put today's date into the system message.
//!
//! Transformers formats the local time. The standard library knows no time zones, so this formats UTC; a date is off by one for
//! some hours a day, which no model notices.

use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::{Error, ErrorKind};

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The time now in a format of C's `strftime`, with the conversions for date and time of day.
pub(super) fn strftime_now(format: &str) -> Result<String, Error> {
    // A clock before 1970 is no reason to fail.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    format_utc(now, format)
}

/// Formats `seconds` since 1970.
fn format_utc(seconds: u64, format: &str) -> Result<String, Error> {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let (year, month, day) = civil(days);
    // 1 January 1970 was a Thursday.
    let day_name = DAYS[((days + 4) % 7) as usize];
    let month_name = MONTHS[month as usize - 1];

    let mut out = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        out += &match characters.next() {
            Some('Y') => format!("{year:04}"),
            Some('y') => format!("{:02}", year % 100),
            Some('m') => format!("{month:02}"),
            Some('d') => format!("{day:02}"),
            Some('H') => format!("{hour:02}"),
            Some('I') => format!("{:02}", (hour + 11) % 12 + 1),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            Some('M') => format!("{minute:02}"),
            Some('S') => format!("{second:02}"),
            Some('A') => day_name.to_owned(),
            Some('a') => day_name[..3].to_owned(),
            Some('B') => month_name.to_owned(),
            Some('b') => month_name[..3].to_owned(),
            Some('F') => format!("{year:04}-{month:02}-{day:02}"),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('%') => "%".to_owned(),
            other => {
                let conversion = other.map(String::from).unwrap_or_default();
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    format!("strftime_now does not know %{conversion}"),
                ));
            }
        };
    }
    Ok(out)
}

/// Year, month and day of the Gregorian calendar, `days` after 1 January 1970: Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `civil_from_days`. The year is counted from March, so that the leap day comes last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_as_python_does() {
        // datetime.fromtimestamp(SECONDS, timezone.utc).strftime(...) with LC_ALL=C.
        let full = "%a %A %d %b %B %m %Y %y %H %I %p %M %S %F %T %%";
        for (seconds, expected) in [
            (0, "Thu Thursday 01 Jan January 01 1970 70 00 12 AM 00 00 1970-01-01 00:00:00 %"),
            (
                951_827_696,
                "Tue Tuesday 29 Feb February 02 2000 00 12 12 PM 34 56 2000-02-29 12:34:56 %",
            ),
            (
                1_798_761_599,
                "Thu Thursday 31 Dec December 12 2026 26 23 11 PM 59 59 2026-12-31 23:59:59 %",
            ),
            (
                4_107_542_400,
                "Mon Monday 01 Mar March 03 2100 00 00 12 AM 00 00 2100-03-01 00:00:00 %",
            ),
        ] {
            assert_eq!(format_utc(seconds, full).unwrap(), expected);
        }
    }

    #[test]
    fn unknown_conversions_are_errors() {
        assert!(format_utc(0, "%Q").is_err());
        assert!(format_utc(0, "100%").is_err());
    }
}
