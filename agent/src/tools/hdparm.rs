//! hdparm (9.65): the size that an ATA disk shows, and the ones that it could (ACS-3: host protected area, device
//! configuration overlay; without a number `-N` sets nothing); and the Security feature set, which erases the disk.

use std::time::Duration;

use super::runner::{Finished, Invocation, ToolError};

const TOOL: &str = "hdparm";
const PATIENCE: Duration = Duration::from_mins(1);

/// Asks for the visible and the native number of sectors.
pub fn max_sectors(device: &str) -> Invocation {
    Invocation { tool: TOOL, args: vec!["-N".into(), device.into()], timeout: PATIENCE }
}

/// Asks for the number of sectors that the overlay says the disk really has.
pub fn dco_identify(device: &str) -> Invocation {
    Invocation { tool: TOOL, args: vec!["--dco-identify".into(), device.into()], timeout: PATIENCE }
}

/// The password that a disk has from the begin of its erasing to the end, when it forgets it. Told to people, so that a
/// disk whose power went meanwhile can be unlocked.
pub const ERASE_PASSWORD: &str = "vetting";

/// Asks for what IDENTIFY DEVICE tells, with the state of the Security feature set.
pub fn identify(device: &str) -> Invocation {
    Invocation { tool: TOOL, args: vec!["-I".into(), device.into()], timeout: PATIENCE }
}

/// Sets [`ERASE_PASSWORD`], without which no disk lets itself be erased.
pub fn security_set_password(device: &str) -> Invocation {
    security("--security-set-pass", device, PATIENCE)
}

/// Takes [`ERASE_PASSWORD`] away again.
pub fn security_disable(device: &str) -> Invocation {
    security("--security-disable", device, PATIENCE)
}

/// SECURITY ERASE UNIT: all on the disk is lost. Comes back when the disk is done, which it expects after `expected`.
pub fn security_erase(device: &str, enhanced: bool, expected: Duration) -> Invocation {
    let word = if enhanced { "--security-erase-enhanced" } else { "--security-erase" };
    security(word, device, expected * 2 + Duration::from_hours(1))
}

fn security(word: &str, device: &str, timeout: Duration) -> Invocation {
    let args = ["--user-master", "u", word, ERASE_PASSWORD, device].map(Into::into).into();
    Invocation { tool: TOOL, args, timeout }
}

/// Whether a disk lets a password be set, without which it is not erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It does.
    Open,
    /// The firmware has told it to refuse until its power was off.
    Frozen,
    /// It has one already.
    Password,
}

/// State of a disk's Security feature set (ACS-3, 4.18).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Security {
    /// Whether it lets a password be set.
    pub access: Access,
    /// It has the enhanced mode of erasing.
    pub enhanced: bool,
    /// How long it says that erasing takes; `None` if it does not say.
    pub erase_takes: Option<Duration>,
    /// Likewise, in enhanced mode.
    pub enhanced_takes: Option<Duration>,
}

/// The `Security:` section; `None` for a disk without the feature set.
///
/// # Errors
/// An answer that is not about an ATA device, or a section that leaves out what has to be known.
pub fn parse_security(finished: &Finished) -> Result<Option<Security>, ToolError> {
    finished.success(TOOL)?;
    let stdout = finished.stdout_text();
    if !stdout.contains("ATA device") {
        return Err(garbage("its answer is not about an ATA device"));
    }
    let Some((_, section)) = stdout.split_once("\nSecurity:") else { return Ok(None) };
    // up to the next heading, which is not indented
    let lines: Vec<&str> = section
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with(char::is_whitespace))
        .map(str::trim)
        .collect();
    let is = |words: &str| {
        let (mut yes, mut no) = (false, false);
        for line in &lines {
            match line.strip_prefix("not").map(str::trim) {
                Some(rest) => no |= rest == words,
                None => yes |= *line == words,
            }
        }
        if yes == no {
            return Err(garbage(format!("it does not tell whether the disk is {words}")));
        }
        Ok(yes)
    };
    if !is("supported")? {
        return Ok(None);
    }
    let minutes = |words: &str| {
        let line = lines.iter().find(|line| line.contains(words))?;
        let before =
            line.split_once(words)?.0.trim_end().strip_suffix("for")?.trim_end().strip_suffix("min")?;
        let number: u64 =
            before.rsplit(|character: char| !character.is_ascii_digit()).next()?.parse().ok()?;
        Some(Duration::from_mins(number))
    };
    let access = match (is("enabled")? || is("locked")?, is("frozen")?) {
        (true, _) => Access::Password,
        (false, true) => Access::Frozen,
        (false, false) => Access::Open,
    };
    Ok(Some(Security {
        access,
        enhanced: lines.contains(&"supported: enhanced erase"),
        erase_takes: minutes("SECURITY ERASE UNIT"),
        enhanced_takes: minutes("ENHANCED SECURITY ERASE UNIT"),
    }))
}

/// Sectors of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxSectors {
    /// That it shows.
    pub visible: u64,
    /// That it would show without a host protected area.
    pub native: u64,
}

fn garbage(message: impl Into<String>) -> ToolError {
    ToolError::Garbage { tool: TOOL.to_owned(), message: message.into() }
}

/// ` max sectors   = 976771055/976773168, HPA is enabled`
pub fn parse_max_sectors(finished: &Finished) -> Result<MaxSectors, ToolError> {
    finished.success(TOOL)?;
    let stdout = finished.stdout_text();
    let numbers = stdout.lines().find_map(|line| {
        let (_, rest) = line.trim().strip_prefix("max sectors")?.split_once('=')?;
        let (visible, native) = rest.split(',').next()?.trim().split_once('/')?;
        // some disks' native size is followed by a remark: `976773168(1?)`
        let native = native.split(|character: char| !character.is_ascii_digit()).next()?;
        Some(MaxSectors { visible: visible.parse().ok()?, native: native.parse().ok()? })
    });
    let max = numbers.ok_or_else(|| garbage("it does not tell the native number of sectors"))?;
    if max.visible == 0 || max.native < max.visible {
        return Err(garbage(format!("{} of {} sectors cannot be", max.visible, max.native)));
    }
    Ok(max)
}

/// `Real max sectors: 976773168`, indented.
pub fn parse_dco_identify(finished: &Finished) -> Result<u64, ToolError> {
    finished.success(TOOL)?;
    let stdout = finished.stdout_text();
    stdout
        .lines()
        .find_map(|line| line.trim().strip_prefix("Real max sectors:")?.trim().parse().ok())
        .ok_or_else(|| garbage("it does not tell the real number of sectors"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tools::runner::Exit;

    fn answer(stdout: &str) -> Finished {
        Finished {
            exit: Exit::Code(0),
            stdout: stdout.as_bytes().to_vec(),
            stderr: Vec::new(),
            truncated: false,
            elapsed: Duration::ZERO,
        }
    }

    #[test]
    fn visible_and_native_sectors_are_read() {
        let plain = "\n/dev/sda:\n max sectors   = 976773168/976773168, HPA is disabled\n";
        let max = parse_max_sectors(&answer(plain)).unwrap();
        assert_eq!(max, MaxSectors { visible: 976_773_168, native: 976_773_168 });
        let hidden = "\n/dev/sda:\n max sectors   = 78165360/976773168(1?), HPA setting seems invalid\n";
        assert_eq!(parse_max_sectors(&answer(hidden)).unwrap().native, 976_773_168);
        let overlay = "\n/dev/sda:\nDCO Revision: 0x0002\nThe following features can be selectively disabled via DCO:\n\
                       \tTransfer modes:\n\t\t mdma0 mdma1 mdma2\n\tReal max sectors: 976773168\n";
        assert_eq!(parse_dco_identify(&answer(overlay)).unwrap(), 976_773_168);
    }

    /// As hdparm's source prints it (identify.c, `print_security`), with `not` before what is not so.
    fn identified(state: [&str; 4]) -> String {
        let [enabled, locked, frozen, enhanced] = state;
        format!(
            "\n/dev/sda:\n\nATA device, with non-removable media\n\tModel Number:       EXAMPLE\n\
             Capabilities:\n\tLBA, IORDY(can be disabled)\nSecurity: \n\
             \tMaster password revision code = 65534\n\t\tsupported\n\t{enabled}\tenabled\n\t{locked}\tlocked\n\
             \t{frozen}\tfrozen\n\tnot\texpired: security count\n\t{enhanced}\tsupported: enhanced erase\n\
             \t2min for SECURITY ERASE UNIT. 8min for ENHANCED SECURITY ERASE UNIT. \n\
             Logical Unit WWN Device Identifier: 5000000000000001\n"
        )
    }

    #[test]
    fn the_state_of_security_is_read() {
        let security = parse_security(&answer(&identified(["not", "not", "not", ""]))).unwrap().unwrap();
        let fresh = Security {
            access: Access::Open,
            enhanced: true,
            erase_takes: Some(Duration::from_mins(2)),
            enhanced_takes: Some(Duration::from_mins(8)),
        };
        assert_eq!(security, fresh);
        let frozen = parse_security(&answer(&identified(["not", "not", "", "not"]))).unwrap().unwrap();
        assert_eq!(frozen, Security { access: Access::Frozen, enhanced: false, ..fresh });
        let bare = "/dev/sda:\n\nATA device, with non-removable media\nChecksum: correct\n";
        assert_eq!(parse_security(&answer(bare)).unwrap(), None);
    }

    #[test]
    fn a_state_that_is_not_told_is_an_error() {
        let whole = identified(["not", "not", "not", ""]);
        for missing in
            ["\tnot\tfrozen\n", "\tnot\tlocked\n", "\tnot\tenabled\n", "\t\tsupported\n", "ATA device"]
        {
            assert!(whole.contains(missing));
            assert!(parse_security(&answer(&whole.replace(missing, ""))).is_err(), "{missing}");
        }
        assert!(parse_security(&answer("")).is_err());
    }

    #[test]
    fn no_answer_is_not_a_disk_that_hides_nothing() {
        for stdout in
            ["", "/dev/sda:\n", " max sectors = 0/0\n", " max sectors = 9/8, x\n", " max sectors = a/b\n"]
        {
            assert!(parse_max_sectors(&answer(stdout)).is_err(), "{stdout}");
            assert!(parse_dco_identify(&answer(stdout)).is_err(), "{stdout}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in "(max sectors|=|/|[0-9]{0,30}|,| |\n|.){0,12}") {
            let _ = parse_max_sectors(&answer(&text));
            let _ = parse_dco_identify(&answer(&text));
            let _ = parse_security(&answer(&format!("ATA device\nSecurity:\n{text}")));
        }
    }
}
