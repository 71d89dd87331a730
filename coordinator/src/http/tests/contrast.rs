//! The colours of the web page and of the report: each can be read on each ground it may stand on (WCAG 2.2, AA).

use std::collections::BTreeMap;

use vetting_judge::report::chart;

const WEB: &str = include_str!("../../../web/web.css");
const REPORT: &str = include_str!("../../../judge/src/report/style.css");
const DARK: &str = "screen and (prefers-color-scheme: dark)";

/// Names of colours and their values, `#rrggbb`.
type Colours<'a> = BTreeMap<&'a str, &'a str>;

/// The colours that `:root` sets under a condition; the empty one is all media.
fn set_under<'a>(style: &'a str, condition: &str) -> Colours<'a> {
    let mut colours = Colours::new();
    for (position, part) in style.split("@media ").enumerate() {
        let (of, rest) = if position == 0 { ("", part) } else { part.split_once('{').unwrap() };
        if of.trim() != condition {
            continue;
        }
        for block in rest.split(":root {").skip(1) {
            let declarations = block.split('}').next().unwrap().split(';');
            let values = declarations.filter_map(|one| one.trim().strip_prefix("--")?.split_once(": "));
            colours.extend(values.filter(|(_, value)| value.starts_with('#')));
        }
    }
    assert!(colours.len() > 10, "{condition}: {colours:?}");
    colours
}

/// Relative luminance (WCAG 2.2).
fn luminance(colour: &str) -> f64 {
    let part = |at: usize| {
        let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    assert_eq!(colour.len(), 7, "{colour} is #rrggbb");
    0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
}

fn contrast(one: &str, other: &str) -> f64 {
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

/// What a colour is for, by its name.
fn is_ground(name: &str) -> bool {
    matches!(name, "page" | "surface" | "sunken") || name.ends_with("-back")
}

fn is_drawn(name: &str) -> bool {
    let is_series = name.strip_prefix('s').is_some_and(|digits| digits.parse::<u8>().is_ok());
    is_series || name.ends_with("-fill")
}

/// What is too faint. Lines between rows and around boxes say nothing: what they part is apart without them.
fn faint(colours: &Colours) -> Vec<String> {
    let mut faint = Vec::new();
    for (name, colour) in colours.iter().filter(|(name, _)| !is_ground(name) && **name != "line") {
        let least = if is_drawn(name) { 3.0 } else { 4.5 };
        for (ground, under) in colours.iter().filter(|(name, _)| is_ground(name)) {
            let found = contrast(colour, under);
            if found < least {
                faint.push(format!("{name} {colour} on {ground} {under}: {found:.2}, not {least}"));
            }
        }
    }
    faint
}

#[test]
fn contrast_is_as_the_standard_computes_it() {
    for (one, other, ratio) in
        [("#000000", "#ffffff", 21.0), ("#777777", "#ffffff", 4.48), ("#ffffff", "#ffffff", 1.0)]
    {
        assert!((contrast(one, other) - ratio).abs() < 0.005, "{one} {other} {}", contrast(one, other));
        assert!((contrast(other, one) - ratio).abs() < 0.005);
    }
    let of = |text| Colours::from([("surface", "#ffffff"), ("text", text), ("s0", text)]);
    assert_eq!(faint(&of("#888888")), ["text #888888 on surface #ffffff: 3.54, not 4.5"]);
    assert_eq!(faint(&of("#a4aeb9")).len(), 2);
}

#[test]
fn every_colour_is_told_from_every_ground() {
    for (name, style) in [("web.css", WEB), ("style.css", REPORT)] {
        let light = set_under(style, "");
        let over = |condition| light.clone().into_iter().chain(set_under(style, condition)).collect();
        for (look, colours) in [("light", light.clone()), ("dark", over(DARK)), ("print", over("print"))] {
            assert_eq!(faint(&colours), Vec::<String>::new(), "{name}, {look}");
        }
    }
}

#[test]
fn no_colour_is_used_that_has_no_name() {
    for (name, style) in [("web.css", WEB), ("style.css", REPORT), ("chart.css", chart::STYLE)] {
        // chart.css has no colours of its own
        let named: Vec<&str> = if name == "chart.css" {
            set_under(REPORT, "").into_keys().collect()
        } else {
            set_under(style, "").into_keys().chain(["mono"]).collect()
        };
        for used in style.split("var(--").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            assert!(named.contains(&used), "{name}: {used}");
        }
        let lines = style.lines().filter(|line| !line.trim_start().starts_with("--"));
        for value in lines.flat_map(|line| line.split(": ").skip(1)) {
            assert!(!value.trim_start().starts_with('#'), "{name}: {value}");
        }
    }
}
