//! hdparm (9.65): the size that an ATA disk shows, and the ones that it could (ACS-3: host protected area, device
//! configuration overlay). Only ever asks: without a number `-N` sets nothing.

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
        }
    }
}
