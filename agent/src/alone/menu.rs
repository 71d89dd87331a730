//! The questions at the console before and after a run without a coordinator. Plain lines: a letter and Enter.
//!
//! Consent to overwrite disks is never a single key: the word must be typed out.

use std::time::Duration;

use vetting_protocol::profile::ProfileName;

use super::keys::Keys;
use crate::console::Console;

/// Seconds before a stick with `start: auto` starts by itself.
const COUNTDOWN_SECONDS: u64 = 10;
/// What a person types who agrees that disks are overwritten.
pub const CONSENT_WORD: &str = "WIPE";
/// How long an unanswered question waits before it is asked again, for whoever connects to the console later.
const ASK_AGAIN: Duration = Duration::from_mins(1);

/// What a person, or the stick, decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The profile.
    pub profile: ProfileName,
    /// Consent.
    pub wipe: bool,
}

/// What the stick says beforehand; everything may be changed at the menu.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preset {
    /// The profile.
    pub profile: Option<ProfileName>,
    /// Consent.
    pub wipe: bool,
    /// Starts by itself.
    pub start: bool,
    /// The stick is known, so that consent cannot hit it.
    pub may_wipe: bool,
    /// Mistakes and remarks to show above the menu. With one, nothing starts by itself.
    pub mistakes: Vec<String>,
}

/// The end of the menu before a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Start.
    Start(Choice),
    /// Read the stick again.
    ReadAgain,
    /// Restart the machine.
    Reboot,
    /// Switch it off.
    PowerOff,
}

/// Asks until there is a decision.
pub fn before(keys: &dyn Keys, console: &dyn Console, preset: &Preset) -> Decision {
    let mut profile = preset.profile;
    let mut wipe = preset.wipe;
    for mistake in &preset.mistakes {
        console.line(mistake);
    }
    if let (true, Some(profile), []) = (preset.start, profile, &*preset.mistakes)
        && count_down(keys, console, profile, wipe)
    {
        return Decision::Start(Choice { profile, wipe });
    }
    loop {
        show(console, profile, wipe);
        let Some(answer) = keys.line(ASK_AGAIN) else { continue };
        match answer.to_ascii_lowercase().as_str() {
            "1" | "quick" => profile = Some(ProfileName::Quick),
            "2" | "deep" => profile = Some(ProfileName::Deep),
            "3" | "soak" => profile = Some(ProfileName::Soak),
            "w" if wipe => wipe = false,
            "w" if !preset.may_wipe => {
                console.line(
                    "not while the stick is unknown: it could be among the disks. Put it in and type r",
                );
            }
            "w" => wipe = ask_consent(keys, console),
            "s" | "start" => match profile {
                Some(profile) => return Decision::Start(Choice { profile, wipe }),
                None => console.line("choose a profile first: 1, 2 or 3"),
            },
            "r" => return Decision::ReadAgain,
            "b" => return Decision::Reboot,
            "o" => return Decision::PowerOff,
            "" => {}
            _ => console.line(&format!("`{answer}` is none of the choices")),
        }
    }
}

fn show(console: &dyn Console, profile: Option<ProfileName>, wipe: bool) {
    let chosen = |name: ProfileName| if profile == Some(name) { "*" } else { " " };
    let disks =
        if wipe { "MAY BE OVERWRITTEN, all but this stick" } else { "with something on them are only read" };
    for line in [
        "--- vetting without a coordinator: type a letter or number, then Enter".to_owned(),
        format!("  {}1  profile quick: half an hour", chosen(ProfileName::Quick)),
        format!("  {}2  profile deep: about a day", chosen(ProfileName::Deep)),
        format!("  {}3  profile soak: three days", chosen(ProfileName::Soak)),
        format!("   w  disks {disks} (change)"),
        "   s  start".to_owned(),
        "   r  read the stick's settings again     b  restart     o  power off".to_owned(),
    ] {
        console.line(&line);
    }
}

fn ask_consent(keys: &dyn Keys, console: &dyn Console) -> bool {
    console.line("every disk of this machine but the stick may then be OVERWRITTEN.");
    console.line(&format!("type {CONSENT_WORD} and Enter to agree, anything else to go back"));
    let agreed = keys.line(ASK_AGAIN).is_some_and(|answer| answer == CONSENT_WORD);
    if !agreed {
        console.line("disks with something on them are only read");
    }
    agreed
}

/// Whether nobody stopped it.
fn count_down(keys: &dyn Keys, console: &dyn Console, profile: ProfileName, wipe: bool) -> bool {
    let disks = if wipe { "; DISKS MAY BE OVERWRITTEN" } else { "" };
    console.line(&format!(
        "profile {profile}{disks}: starts in {COUNTDOWN_SECONDS} s; press Enter to stop that"
    ));
    keys.line(Duration::from_secs(COUNTDOWN_SECONDS)).is_none()
}

/// What a person wants after a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Afterwards {
    /// Store the results again.
    StoreAgain,
    /// Restart the machine.
    Reboot,
    /// Switch it off.
    PowerOff,
}

/// Asks until there is an answer. `missing` says why the results are not on the stick, if they are not.
pub fn after(keys: &dyn Keys, console: &dyn Console, missing: Option<&str>) -> Afterwards {
    loop {
        if let Some(why) = missing {
            console.line(&format!("THE RESULTS ARE NOT ON THE STICK: {why}"));
            console.line("switching off loses them. r  store them again (put the stick in first)");
        }
        console.line("b  restart     o  power off     (then Enter)");
        let Some(answer) = keys.line(ASK_AGAIN) else { continue };
        match answer.to_ascii_lowercase().as_str() {
            "r" if missing.is_some() => return Afterwards::StoreAgain,
            "b" => return Afterwards::Reboot,
            "o" => return Afterwards::PowerOff,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Shown(Mutex<Vec<String>>);

    impl Console for Shown {
        fn line(&self, text: &str) {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }

    /// Types these; `None` lets the time pass.
    struct Typed(RefCell<VecDeque<Option<&'static str>>>);

    impl Keys for Typed {
        fn line(&self, _: Duration) -> Option<String> {
            self.0.borrow_mut().pop_front().expect("no more questions were expected").map(str::to_owned)
        }
    }

    fn decide(preset: &Preset, typed: &[Option<&'static str>]) -> (Decision, String) {
        let (keys, console) = (Typed(RefCell::new(typed.iter().copied().collect())), Shown::default());
        let decision = before(&keys, &console, preset);
        assert!(keys.0.borrow().is_empty(), "not everything was asked for");
        (decision, console.0.into_inner().unwrap().join("\n"))
    }

    const QUICK: Choice = Choice { profile: ProfileName::Quick, wipe: false };

    #[test]
    fn nothing_starts_without_a_profile_and_a_start() {
        let (decision, shown) =
            decide(&Preset::default(), &[None, Some("s"), Some("x"), Some("1"), Some("S")]);
        assert_eq!(decision, Decision::Start(QUICK));
        assert!(shown.contains("choose a profile first") && shown.contains("`x` is none"));
    }

    #[test]
    fn consent_must_be_typed_out_and_can_be_taken_back() {
        let known = Preset { may_wipe: true, ..Preset::default() };
        let typed = |word| decide(&known, &[Some("2"), Some("w"), word, Some("s")]).0;
        let deep = |wipe| Decision::Start(Choice { profile: ProfileName::Deep, wipe });
        assert_eq!(typed(Some("WIPE")), deep(true));
        for word in [Some("wipe"), Some("y"), Some(""), None] {
            assert_eq!(typed(word), deep(false), "{word:?}");
        }
        let (unknown, _) = decide(&Preset::default(), &[Some("2"), Some("w"), Some("s")]);
        assert_eq!(unknown, deep(false));
        let given = Preset { profile: Some(ProfileName::Deep), wipe: true, ..Preset::default() };
        assert_eq!(decide(&given, &[Some("w"), Some("s")]).0, deep(false));
    }

    #[test]
    fn a_stick_can_start_by_itself_and_a_person_can_stop_that() {
        let preset = Preset { profile: Some(ProfileName::Quick), start: true, ..Preset::default() };
        assert_eq!(decide(&preset, &[None]).0, Decision::Start(QUICK));
        assert_eq!(decide(&preset, &[Some(""), Some("o")]).0, Decision::PowerOff);
    }

    #[test]
    fn with_a_mistake_nothing_starts_by_itself() {
        let mistakes = vec!["vetting.yaml: line 3, column 1: no".to_owned()];
        let preset = Preset { profile: Some(ProfileName::Quick), start: true, mistakes, ..Preset::default() };
        let (decision, shown) = decide(&preset, &[None, None, Some("r")]);
        assert_eq!(decision, Decision::ReadAgain);
        assert!(shown.contains("line 3, column 1"));
    }

    #[test]
    fn results_that_are_not_stored_are_told_until_they_are() {
        let (keys, console) = (Typed(RefCell::new([None, Some("r")].into())), Shown::default());
        assert_eq!(after(&keys, &console, Some("it is full")), Afterwards::StoreAgain);
        assert_eq!(console.0.into_inner().unwrap().join("\n").matches("it is full").count(), 2);
        let (keys, console) = (Typed(RefCell::new([Some("r"), Some("o")].into())), Shown::default());
        assert_eq!(after(&keys, &console, None), Afterwards::PowerOff);
    }
}
