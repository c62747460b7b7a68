//! Time zones: the one that a reader has chosen, how a time is written in it, and how a time that was typed is read.
//!
//! Every time on a page and every time in a form is in the chosen zone, and each that is written names its offset, because a
//! zone has two in a year. A time that a clock change skips or repeats is read as the earlier of the two.

use chrono::{DateTime, NaiveDate, NaiveDateTime, Offset as _, TimeZone as _, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};

/// The zones of the short list: one per offset where many people live, the readers of these languages first.
pub(crate) const USUAL_ZONES: [Tz; 24] = [
    Tz::UTC,
    Tz::Asia__Shanghai,
    Tz::Asia__Hong_Kong,
    Tz::Asia__Taipei,
    Tz::Asia__Singapore,
    Tz::Asia__Tokyo,
    Tz::Asia__Seoul,
    Tz::Asia__Bangkok,
    Tz::Asia__Jakarta,
    Tz::Asia__Manila,
    Tz::Asia__Kolkata,
    Tz::Asia__Dubai,
    Tz::Europe__Moscow,
    Tz::Europe__Istanbul,
    Tz::Europe__Berlin,
    Tz::Europe__Paris,
    Tz::Europe__London,
    Tz::America__Sao_Paulo,
    Tz::America__New_York,
    Tz::America__Chicago,
    Tz::America__Denver,
    Tz::America__Los_Angeles,
    Tz::Australia__Sydney,
    Tz::Pacific__Auckland,
];

/// A time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Zone(Tz);

impl Zone {
    /// Where nothing was chosen.
    pub(crate) const UTC: Self = Self(Tz::UTC);

    /// A zone of the tz database by its name, such as `Asia/Tokyo`.
    #[must_use]
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        name.parse().ok().map(Self)
    }

    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        self.0.name()
    }

    /// All zones of the tz database, by name.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        TZ_VARIANTS.iter().copied().map(Self)
    }

    /// The short list, with this one in it.
    pub(crate) fn choices(self) -> Vec<Self> {
        let mut zones: Vec<Self> = USUAL_ZONES.map(Self).into();
        if !zones.contains(&self) {
            zones.insert(0, self);
        }
        zones
    }

    /// `UTC`, `UTC+8`, `UTC-3:30`: the offset at a moment.
    #[must_use]
    pub(crate) fn offset_at(self, time: DateTime<Utc>) -> String {
        let secs = time.with_timezone(&self.0).offset().fix().local_minus_utc();
        let (sign, secs) = (if secs < 0 { '-' } else { '+' }, secs.unsigned_abs());
        match (secs / 3600, secs % 3600 / 60) {
            (0, 0) => "UTC".to_owned(),
            (hours, 0) => format!("UTC{sign}{hours}"),
            (hours, minutes) => format!("UTC{sign}{hours}:{minutes:02}"),
        }
    }

    /// `2026-11-11 22:21:05`.
    #[must_use]
    pub(crate) fn date_and_time(self, time: DateTime<Utc>) -> String {
        time.with_timezone(&self.0).format("%Y-%m-%d %H:%M:%S").to_string()
    }

    /// `2026-11-11`.
    #[must_use]
    pub(crate) fn date(self, time: DateTime<Utc>) -> String {
        time.with_timezone(&self.0).format("%Y-%m-%d").to_string()
    }

    /// `22:21:05`.
    #[must_use]
    pub(crate) fn clock(self, time: DateTime<Utc>) -> String {
        time.with_timezone(&self.0).format("%H:%M:%S").to_string()
    }

    /// `22:21`.
    #[must_use]
    pub(crate) fn hour_and_minute(self, time: DateTime<Utc>) -> String {
        time.with_timezone(&self.0).format("%H:%M").to_string()
    }

    /// A time as a form or an address has it: RFC 3339 with its own offset, or date and time in this zone with a space or a
    /// `T` between them, with or without seconds, or a date alone, which is its first moment.
    #[must_use]
    pub(crate) fn read(self, text: &str) -> Option<DateTime<Utc>> {
        let text = text.trim();
        if let Ok(time) = DateTime::parse_from_rfc3339(text) {
            return Some(time.to_utc());
        }
        let text = text.replacen('T', " ", 1);
        let forms = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"];
        let local = forms.iter().find_map(|form| NaiveDateTime::parse_from_str(&text, form).ok());
        let local =
            local.or_else(|| NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0))?;
        let found = self.0.from_local_datetime(&local);
        let found = found.earliest().or_else(|| {
            // In the hour that a clock change skips: by the offset that held before.
            let before = local.checked_sub_signed(chrono::TimeDelta::hours(3))?;
            let before = self.0.from_local_datetime(&before).earliest()?;
            before.checked_add_signed(chrono::TimeDelta::hours(3))
        })?;
        Some(found.to_utc())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    #[test]
    fn a_time_is_written_in_its_zone_with_the_offset_of_that_moment() {
        let zone = |name| Zone::of_name(name).unwrap();
        for (name, time, shown, offset) in [
            ("UTC", "2026-11-11T21:21:05Z", "2026-11-11 21:21:05", "UTC"),
            ("Asia/Tokyo", "2026-11-11T21:21:05Z", "2026-11-12 06:21:05", "UTC+9"),
            ("Asia/Kolkata", "2026-11-11T21:21:05Z", "2026-11-12 02:51:05", "UTC+5:30"),
            ("Europe/Berlin", "2026-07-11T21:21:05Z", "2026-07-11 23:21:05", "UTC+2"),
            ("Europe/Berlin", "2026-11-11T21:21:05Z", "2026-11-11 22:21:05", "UTC+1"),
            ("America/St_Johns", "2026-11-11T21:21:05Z", "2026-11-11 17:51:05", "UTC-3:30"),
        ] {
            let zone = zone(name);
            assert_eq!(zone.date_and_time(utc(time)), shown, "{name}");
            assert_eq!(zone.offset_at(utc(time)), offset, "{name}");
            assert_eq!(zone.read(shown), Some(utc(time)), "{name}: what is shown can be typed");
        }
        assert_eq!(Zone::of_name("Middle/Earth"), None);
    }

    #[test]
    fn a_typed_time_has_several_forms_and_a_clock_change_no_hole() {
        let berlin = Zone::of_name("Europe/Berlin").unwrap();
        for (text, wanted) in [
            ("2026-11-11 20:00", Some("2026-11-11T19:00:00Z")),
            (" 2026-11-11T20:00 ", Some("2026-11-11T19:00:00Z")),
            ("2026-11-11", Some("2026-11-10T23:00:00Z")),
            ("2026-11-11T20:00:00+08:00", Some("2026-11-11T12:00:00Z")),
            ("2026-10-25 02:30", Some("2026-10-25T00:30:00Z")),
            ("2026-03-29 02:30", Some("2026-03-29T01:30:00Z")),
            ("yesterday", None),
            ("2026-13-01", None),
            ("", None),
        ] {
            assert_eq!(berlin.read(text), wanted.map(utc), "{text}");
        }
    }

    #[test]
    fn the_short_list_has_the_chosen_zone_and_every_name_can_be_chosen() {
        let rare = Zone::of_name("Asia/Kathmandu").unwrap();
        assert_eq!(rare.choices()[0], rare);
        assert_eq!(Zone::UTC.choices().len(), USUAL_ZONES.len());
        assert!(Zone::all().all(|zone| Zone::of_name(zone.name()) == Some(zone)));
    }
}
