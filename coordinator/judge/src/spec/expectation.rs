//! What a field of a spec may ask for: a text, a number, a version. Each can be met or not, and says itself in words.

use std::cmp::Ordering;
use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use vetting_protocol::diff::Severity;
use vetting_protocol::inventory::DiskKind;

use crate::glob::TextGlob;
use crate::threshold::RuleSeverity;

/// A text that must match a glob.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpectedText {
    /// What it must match, whole.
    pub glob: TextGlob,
    /// What a difference weighs.
    pub severity: Severity,
}

/// A number in a range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExpectedNumber {
    /// Where it must lie.
    pub range: Range,
    /// What a difference weighs.
    pub severity: Severity,
}

/// A plain value, or `{value: …, severity: …}`.
macro_rules! weighed {
    ($(#[$about:meta])* $name:ident, $value:ty, $form:ident = $form_name:literal, $map:ident, $expecting:literal) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(from = $form_name, into = $form_name)]
        pub struct $name {
            /// What it must be.
            pub value: $value,
            /// What a difference weighs.
            pub severity: Severity,
        }

        #[derive(Serialize, Deserialize)]
        #[serde(untagged, expecting = $expecting)]
        enum $form {
            Plain($value),
            Weighed($map),
        }

        #[derive(Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct $map {
            value: $value,
            severity: Severity,
        }

        impl From<$form> for $name {
            fn from(form: $form) -> Self {
                match form {
                    $form::Plain(value) => Self::critical(value),
                    $form::Weighed($map { value, severity }) => Self { value, severity },
                }
            }
        }

        impl From<$name> for $form {
            fn from($name { value, severity }: $name) -> Self {
                match severity {
                    Severity::Critical => Self::Plain(value),
                    Severity::Warning | Severity::Info => Self::Weighed($map { value, severity }),
                }
            }
        }

        impl $name {
            /// Of a value whose absence is critical.
            pub fn critical(value: $value) -> Self {
                Self { value, severity: Severity::Critical }
            }
        }
    };
}
weighed!(
    /// A switch that must be on or off: `true`, or `{value: true, severity: warning}`.
    ExpectedFlag, bool, FlagForm = "FlagForm", WeighedFlag, "true, false, or {value: …, severity: …}"
);
weighed!(
    /// A kind of disks: `ssd`, or `{value: ssd, severity: warning}`.
    ExpectedKind, DiskKind, KindForm = "KindForm", WeighedKind, "write `hdd`, `ssd`, `nvme` or `virtual`, or {value: …, severity: …}"
);

/// The most that a disk may have behind it: `{max: 100}`, or `{max: 100, severity: warning}`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "MostForm", into = "MostForm")]
pub struct ExpectedMost {
    /// Not more than this.
    pub max: f64,
    /// What more than that weighs.
    pub severity: RuleSeverity,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "{max: …}, with severity: warning where it only warns")]
struct MostForm {
    max: f64,
    #[serde(default = "critical_rule", skip_serializing_if = "is_critical_rule")]
    severity: RuleSeverity,
}

fn critical_rule() -> RuleSeverity {
    RuleSeverity::Critical
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_critical_rule(severity: &RuleSeverity) -> bool {
    *severity == RuleSeverity::Critical
}

impl TryFrom<MostForm> for ExpectedMost {
    type Error = String;

    fn try_from(MostForm { max, severity }: MostForm) -> Result<Self, String> {
        finite::<serde::de::value::Error>(max).map_err(|error| error.to_string())?;
        Ok(Self { max, severity })
    }
}

impl From<ExpectedMost> for MostForm {
    fn from(ExpectedMost { max, severity }: ExpectedMost) -> Self {
        Self { max, severity }
    }
}

/// A range of finite numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Range {
    /// This one.
    Exactly(f64),
    /// This one or more.
    AtLeast(f64),
    /// This one or less.
    AtMost(f64),
    /// From the first to the second.
    Between(f64, f64),
}

/// A version that must be met.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpectedVersion {
    /// How.
    pub rule: VersionRule,
    /// What a difference weighs.
    pub severity: Severity,
}

/// How a version must be.
#[derive(Debug, Clone, PartialEq)]
pub enum VersionRule {
    /// This text.
    Exactly(String),
    /// This version or a later one.
    Minimum(String),
    /// A text that matches.
    Glob(TextGlob),
}

impl ExpectedText {
    /// Exactly this text, critical. Absent for an empty text, which nothing can ask for.
    pub fn literal(text: &str) -> Option<Self> {
        TextGlob::literal(text).ok().map(|glob| Self { glob, severity: Severity::Critical })
    }

    /// In words.
    pub fn describe(&self) -> String {
        if self.glob.is_literal() { self.glob.to_string() } else { format!("matching {}", self.glob) }
    }
}

impl ExpectedNumber {
    /// Exactly this number, critical.
    pub fn exactly(number: impl Into<f64>) -> Self {
        Self { range: Range::Exactly(number.into()), severity: Severity::Critical }
    }

    pub(super) fn one() -> Self {
        Self::exactly(1_u32)
    }
}

impl Range {
    /// Whether a number lies in it, give or take `tolerance`.
    pub fn contains(self, number: f64, tolerance: f64) -> bool {
        let (least, most) = self.bounds();
        number.is_finite()
            && least.is_none_or(|least| number >= least - tolerance)
            && most.is_none_or(|most| number <= most + tolerance)
    }

    /// The least and the most.
    pub fn bounds(self) -> (Option<f64>, Option<f64>) {
        match self {
            Self::Exactly(number) => (Some(number), Some(number)),
            Self::AtLeast(least) => (Some(least), None),
            Self::AtMost(most) => (None, Some(most)),
            Self::Between(least, most) => (Some(least), Some(most)),
        }
    }

    /// The range of given bounds.
    pub fn of(min: Option<f64>, max: Option<f64>) -> Option<Self> {
        match (min, max) {
            (Some(min), Some(max)) => Some(Self::Between(min, max)),
            (Some(min), None) => Some(Self::AtLeast(min)),
            (None, Some(max)) => Some(Self::AtMost(max)),
            (None, None) => None,
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(number) => write!(f, "{number}"),
            Self::AtLeast(least) => write!(f, ">= {least}"),
            Self::AtMost(most) => write!(f, "<= {most}"),
            Self::Between(least, most) => write!(f, "{least} to {most}"),
        }
    }
}

impl VersionRule {
    /// Whether a version meets it.
    pub fn is_met_by(&self, version: &str) -> bool {
        match self {
            Self::Exactly(wanted) => wanted == version,
            Self::Minimum(least) => compare_versions(version, least).is_some_and(Ordering::is_ge),
            Self::Glob(glob) => glob.matches(version),
        }
    }
}

impl fmt::Display for VersionRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(wanted) => f.write_str(wanted),
            Self::Minimum(least) => write!(f, ">= {least}"),
            Self::Glob(glob) => write!(f, "matching {glob}"),
        }
    }
}

/// Compares versions piece by piece: numbers as numbers, letters as text, `0x…` as hexadecimal. A version that goes on
/// where the other ends is the later one. Absent where a number stands against letters: that cannot be told.
pub(super) fn compare_versions(a: &str, b: &str) -> Option<Ordering> {
    let (a, b) = (pieces(a), pieces(b));
    for pair in a.iter().zip(&b) {
        match pair {
            (Piece::Number(a), Piece::Number(b)) if a != b => return Some(a.cmp(b)),
            (Piece::Letters(a), Piece::Letters(b)) if a != b => return Some(a.cmp(b)),
            (Piece::Number(_), Piece::Letters(_)) | (Piece::Letters(_), Piece::Number(_)) => return None,
            (Piece::Number(_), Piece::Number(_)) | (Piece::Letters(_), Piece::Letters(_)) => {}
        }
    }
    if a.is_empty() || b.is_empty() { None } else { Some(a.len().cmp(&b.len())) }
}

enum Piece {
    Letters(String),
    Number(u128),
}

fn pieces(version: &str) -> Vec<Piece> {
    let version = version.trim().to_ascii_lowercase();
    if let Some(number) = version.strip_prefix("0x").and_then(|hex| u128::from_str_radix(hex, 16).ok()) {
        return vec![Piece::Number(number)];
    }
    let mut found = Vec::new();
    let mut rest = version.as_str();
    while let Some(first) = rest.chars().next() {
        let kind = |c: char| if c.is_ascii_digit() { 0 } else { u8::from(!c.is_alphabetic()) + 1 };
        let end = rest.find(|c| kind(c) != kind(first)).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        match kind(first) {
            // a number too long for u128 is compared as text
            0 => found.push(piece.parse().map_or_else(|_| Piece::Letters(piece.to_owned()), Piece::Number)),
            1 => found.push(Piece::Letters(piece.to_owned())),
            _ => {}
        }
        rest = after;
    }
    found
}

fn finite<E: serde::de::Error>(number: f64) -> Result<f64, E> {
    if number.is_finite() && number >= 0.0 {
        Ok(number)
    } else {
        Err(E::custom(format!("{number} cannot be; write a number of 0 or more")))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NumberMap {
    value: Option<f64>,
    min: Option<f64>,
    max: Option<f64>,
    #[serde(default = "critical")]
    severity: Severity,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TextMap {
    value: TextGlob,
    #[serde(default = "critical")]
    severity: Severity,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VersionMap {
    version: Option<String>,
    minimum: Option<String>,
    glob: Option<TextGlob>,
    #[serde(default = "critical")]
    severity: Severity,
}

fn critical() -> Severity {
    Severity::Critical
}

struct NumberVisitor;

impl<'de> Visitor<'de> for NumberVisitor {
    type Value = ExpectedNumber;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or a mapping with min, max or value, and severity")
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<ExpectedNumber, E> {
        self.visit_f64(number as f64)
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<ExpectedNumber, E> {
        self.visit_f64(number as f64)
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<ExpectedNumber, E> {
        finite(number).map(ExpectedNumber::exactly)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ExpectedNumber, A::Error> {
        let given = NumberMap::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
        for number in [given.value, given.min, given.max].into_iter().flatten() {
            finite::<A::Error>(number)?;
        }
        let range = match (given.value, Range::of(given.min, given.max)) {
            (Some(_), Some(_)) => {
                return Err(A::Error::custom("`value` is exact; remove it, or remove `min` and `max`"));
            }
            (None, None) => return Err(A::Error::custom("write `value`, `min` or `max`")),
            (Some(number), None) => Range::Exactly(number),
            (None, Some(Range::Between(min, max))) if min > max => {
                return Err(A::Error::custom("`min` is greater than `max`; no machine can meet that"));
            }
            (None, Some(range)) => range,
        };
        Ok(ExpectedNumber { range, severity: given.severity })
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = ExpectedText;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text in quotes, or a mapping with value and severity")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ExpectedText, E> {
        let glob = text.parse().map_err(E::custom)?;
        Ok(ExpectedText { glob, severity: Severity::Critical })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ExpectedText, A::Error> {
        let given = TextMap::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
        Ok(ExpectedText { glob: given.value, severity: given.severity })
    }
}

struct VersionVisitor;

impl<'de> Visitor<'de> for VersionVisitor {
    type Value = ExpectedVersion;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text in quotes, or a mapping with one of version, minimum and glob, and severity")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ExpectedVersion, E> {
        let glob = text.parse().map_err(E::custom)?;
        Ok(ExpectedVersion { rule: VersionRule::Glob(glob), severity: Severity::Critical })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ExpectedVersion, A::Error> {
        let given = VersionMap::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
        let rule = match (given.version, given.minimum, given.glob) {
            (Some(version), None, None) if !version.is_empty() => VersionRule::Exactly(version),
            (None, Some(least), None) if !least.is_empty() => VersionRule::Minimum(least),
            (None, None, Some(glob)) => VersionRule::Glob(glob),
            _ => return Err(A::Error::custom("write exactly one of `version`, `minimum` and `glob`")),
        };
        Ok(ExpectedVersion { rule, severity: given.severity })
    }
}

macro_rules! deserialize_with_visitor {
    ($($name:ident $visitor:ident),+) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any($visitor)
            }
        }
    )+};
}
deserialize_with_visitor!(ExpectedText TextVisitor, ExpectedNumber NumberVisitor, ExpectedVersion VersionVisitor);

impl Serialize for ExpectedText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.severity == Severity::Critical {
            return self.glob.serialize(serializer);
        }
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("value", &self.glob)?;
        map.serialize_entry("severity", &self.severity)?;
        map.end()
    }
}

impl Serialize for ExpectedNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let (Range::Exactly(number), Severity::Critical) = (self.range, self.severity) {
            return serialize_number(number, serializer);
        }
        let mut map = serializer.serialize_map(None)?;
        match self.range {
            Range::Exactly(number) => map.serialize_entry("value", &Number(number))?,
            Range::AtLeast(_) | Range::AtMost(_) | Range::Between(..) => {
                let (min, max) = self.range.bounds();
                for (key, bound) in [("min", min), ("max", max)] {
                    if let Some(bound) = bound {
                        map.serialize_entry(key, &Number(bound))?;
                    }
                }
            }
        }
        if self.severity != Severity::Critical {
            map.serialize_entry("severity", &self.severity)?;
        }
        map.end()
    }
}

impl Serialize for ExpectedVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.rule {
            VersionRule::Exactly(version) => map.serialize_entry("version", version)?,
            VersionRule::Minimum(least) => map.serialize_entry("minimum", least)?,
            VersionRule::Glob(glob) => map.serialize_entry("glob", glob)?,
        }
        if self.severity != Severity::Critical {
            map.serialize_entry("severity", &self.severity)?;
        }
        map.end()
    }
}

struct Number(f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_number(self.0, serializer)
    }
}

/// Whole numbers without a fraction, as a person writes them.
fn serialize_number<S: Serializer>(number: f64, serializer: S) -> Result<S::Ok, S::Error> {
    const LARGEST_WHOLE: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && (0.0..LARGEST_WHOLE).contains(&number) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and in range")]
        return serializer.serialize_u64(number as u64);
    }
    serializer.serialize_f64(number)
}
