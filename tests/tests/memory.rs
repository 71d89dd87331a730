//! Memory that is broken, on an emulated machine: bytes of it are stuck, and the run names where.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use vetting_image::lab::Firmware;
use vetting_protocol::outcome::StepState;
use vetting_protocol::run::RunResult;
use vetting_tests::machines::HEALTHY;
use vetting_tests::site::{Built, Site, SiteOptions};

const PATIENCE: Duration = Duration::from_mins(10);
/// The memory test goes over everything once.
const PROFILE: &str = "name: quick\ndescription: memory\nsampling_interval: 5s\nstages:\n  \
                       - {stage: Inventory, limit: 5m}\n  - {stage: Memory, limit: 9m, duration: 2s, fade: 0s}\n\
                       thresholds: []\n";
const PAGE_BYTES: usize = 4096;
const WORD_BYTES: usize = 8;
/// Candidates for a page with a stuck byte: these lie below the hole for PCI, where a place in the machine's memory
/// is the same place in the file behind it.
const FIRST_CANDIDATE: u64 = 0x1000_0000;
const LAST_CANDIDATE: u64 = 0x3000_0000;
const CANDIDATES_APART: usize = 0x0100_0000;
/// What a stuck byte always is, and where in its page.
const STUCK: u8 = 0x5a;
const IN_PAGE: u64 = 0xabc;

/// The machine's memory, as the file that QEMU keeps it in.
struct Memory(File);

impl Memory {
    fn page(&self, address: u64) -> anyhow::Result<[u8; PAGE_BYTES]> {
        let mut page = [0; PAGE_BYTES];
        self.0.read_exact_at(&mut page, address)?;
        Ok(page)
    }

    /// Sticks a byte in each candidate that the memory test holds now; notes which.
    fn stick_under_test(&self, stuck: &mut BTreeSet<u64>) -> anyhow::Result<()> {
        for page in (FIRST_CANDIDATE..LAST_CANDIDATE).step_by(CANDIDATES_APART) {
            if holds_its_own_address(&self.page(page)?) {
                self.0.write_all_at(&[STUCK], page + IN_PAGE)?;
                stuck.insert(page);
            }
        }
        Ok(())
    }
}

/// The memory test's first pattern, plain or inverted: each word differs from the first one as their places do. The word
/// with the stuck byte is left out.
fn holds_its_own_address(page: &[u8; PAGE_BYTES]) -> bool {
    let words = page.chunks_exact(WORD_BYTES).map(|word| word.try_into().map_or(0, u64::from_le_bytes));
    let first = words.clone().next().unwrap_or_default();
    let stuck = IN_PAGE / WORD_BYTES as u64;
    (0..).zip(words).all(|(place, word)| place == stuck || word ^ first == place * WORD_BYTES as u64)
}

#[test]
fn qemu_a_stuck_byte_of_memory_fails_in_memory_and_is_named_with_its_slot() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let options = SiteOptions { quick_profile: Some(PROFILE.to_owned()), ..SiteOptions::default() };
    let site = Site::start(&Built::find()?, folder.path(), &options)?;
    let run = site.host_with_run(HEALTHY.name, &HEALTHY.mac().to_string(), HEALTHY.spec_yaml)?;
    let backing = folder.path().join("memory");
    let machine =
        HEALTHY.machine(&site, folder.path(), Firmware::Bios).extra_args(memory_in(&backing)).power_on()?;
    let mut memory = None;
    let mut stuck = BTreeSet::new();
    let detail = site
        .wait_for_result(run, PATIENCE, |detail| {
            let tests_memory =
                detail.stages.iter().any(|stage| stage.name == "Memory" && stage.state == StepState::Running);
            if !tests_memory {
                return;
            }
            if memory.is_none() {
                memory = OpenOptions::new().read(true).write(true).open(&backing).ok().map(Memory);
            }
            if let Some(memory) = &memory {
                // at every look again: what the test writes there does not stay
                let _ = memory.stick_under_test(&mut stuck);
            }
        })
        .with_context(|| format!("the console ends with:\n{}", machine.serial().tail(30)))?;
    assert!(!stuck.is_empty(), "the memory test held none of the candidates: {:#?}", detail.reasons);
    assert_eq!(detail.summary.result, Some(RunResult::Fail), "{:#?}", detail.reasons);
    assert_eq!(detail.summary.failed_stage.as_deref(), Some("Memory"), "{:#?}", detail.reasons);
    let reasons = detail.reasons.join("\n");
    // of the words that the bytes are in, a reason names those that the test came to first
    let named = |page: &u64| {
        let word = page + IN_PAGE / WORD_BYTES as u64 * WORD_BYTES as u64;
        reasons.contains(&format!("physical address {word:#x}"))
    };
    assert!(stuck.iter().any(named), "one of {stuck:#x?} is in\n{reasons}");
    assert!(reasons.contains("DIMM_A"), "the slot is in\n{reasons}");
    Ok(())
}

/// QEMU keeps the machine's memory in a file that others may write.
fn memory_in(file: &Path) -> [String; 4] {
    let mib = 1024;
    [
        "-object".to_owned(),
        format!("memory-backend-file,id=ram,size={mib}M,mem-path={},share=on", file.display()),
        "-machine".to_owned(),
        "memory-backend=ram".to_owned(),
    ]
}
