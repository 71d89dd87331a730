//! Memory that is broken, on an emulated machine: a byte of it is stuck, and the run names where.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use vetting_image::lab::Firmware;
use vetting_protocol::outcome::StepState;
use vetting_protocol::run::RunResult;
use vetting_tests::machines::{HEALTHY, emulated_quick};
use vetting_tests::site::{Built, Site, SiteOptions};

const PATIENCE: Duration = Duration::from_mins(10);
const PAGE_BYTES: usize = 4096;
/// Candidates for the page with the stuck byte: these lie below the hole for PCI, where a place in the machine's memory
/// is the same place in the file behind it.
const FIRST_CANDIDATE: u64 = 0x1000_0000;
const LAST_CANDIDATE: u64 = 0x3000_0000;
const CANDIDATES_APART: usize = 0x0100_0000;
/// What the stuck byte always is, and where in its page.
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

    /// A page that the memory test holds: one that holds the complement of what it held before, as its patterns do.
    fn page_under_test(&self, before: &mut BTreeMap<u64, [u8; PAGE_BYTES]>) -> anyhow::Result<Option<u64>> {
        let mut found = None;
        for address in (FIRST_CANDIDATE..LAST_CANDIDATE).step_by(CANDIDATES_APART) {
            let page = self.page(address)?;
            let is_complement =
                |then: &[u8; PAGE_BYTES]| then.iter().zip(&page).all(|(then, now)| *then == !*now);
            if before.get(&address).is_some_and(is_complement) {
                found = Some(address);
            }
            before.insert(address, page);
        }
        Ok(found)
    }
}

#[test]
fn qemu_a_stuck_byte_of_memory_fails_in_memory_and_is_named_with_its_slot() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let options = SiteOptions { quick_profile: Some(emulated_quick()?), ..SiteOptions::default() };
    let site = Site::start(&Built::find()?, folder.path(), &options)?;
    let run = site.host_with_run(HEALTHY.name, &HEALTHY.mac().to_string(), HEALTHY.spec_yaml)?;
    let backing = folder.path().join("memory");
    let machine =
        HEALTHY.machine(&site, folder.path(), Firmware::Bios).extra_args(memory_in(&backing)).power_on()?;
    let mut memory = None;
    let mut looks = BTreeMap::new();
    let mut stuck = None;
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
            let Some(memory) = &memory else { return };
            if stuck.is_none() {
                stuck = memory.page_under_test(&mut looks).ok().flatten();
            }
            if let Some(page) = stuck {
                // at every look again: what the test writes there does not stay
                let _ = memory.0.write_all_at(&[STUCK], page + IN_PAGE);
            }
        })
        .with_context(|| format!("the console ends with:\n{}", machine.serial().tail(30)))?;
    let page = stuck.context("the memory test held one of the candidates")?;
    assert_eq!(detail.summary.result, Some(RunResult::Fail), "{:#?}", detail.reasons);
    assert_eq!(detail.summary.failed_stage.as_deref(), Some("Memory"), "{:#?}", detail.reasons);
    let reasons = detail.reasons.join("\n");
    // the word that the byte is in
    let word = format!("physical address {:#x}", page + IN_PAGE / 8 * 8);
    assert!(reasons.contains(&word), "`{word}` is in\n{reasons}");
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
