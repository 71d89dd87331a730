//! Where in the machine's memory a page of this process lies: `/proc/self/pagemap`
//! (Documentation/admin-guide/mm/pagemap.rst).

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use super::{Host, HostError};

const PAGE_BYTES: u64 = 4096;
const ENTRY_BYTES: u64 = 8;
const PRESENT: u64 = 1 << 63;
const FRAME: u64 = (1 << 55) - 1;

impl Host {
    /// The physical address of a virtual one of this process; `None` where the page is not in memory, or the kernel
    /// does not tell, as it tells only root.
    pub fn physical_address(&self, virtual_address: u64) -> Result<Option<u64>, HostError> {
        let absolute = "/proc/self/pagemap";
        let failed = |source| HostError::Read { path: PathBuf::from(absolute), source };
        let mut entry = [0_u8; 8];
        let file = File::open(self.checked(absolute)?).map_err(failed)?;
        file.read_exact_at(&mut entry, virtual_address / PAGE_BYTES * ENTRY_BYTES).map_err(failed)?;
        Ok(physical(u64::from_le_bytes(entry), virtual_address))
    }
}

fn physical(entry: u64, virtual_address: u64) -> Option<u64> {
    let frame = Some(entry & FRAME).filter(|frame| entry & PRESENT != 0 && *frame != 0)?;
    Some(frame * PAGE_BYTES + virtual_address % PAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_tells_the_frame_only_where_there_is_one() {
        assert_eq!(physical(0x8180_0000_0012_3456, 0x7f00_0000_1ab8), Some(0x1_2345_6ab8));
        for hidden_or_absent in [0, 0x8180_0000_0000_0000, 0x4000_0000_0012_3456] {
            assert_eq!(physical(hidden_or_absent, 0x1000), None);
        }
    }
}
