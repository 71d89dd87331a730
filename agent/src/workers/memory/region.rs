//! Memory of the kernel held in place: mapped, bound to a NUMA node, locked, reached past the caches.

use std::arch::x86_64::{_mm_clflush, _mm_mfence, _mm_sfence, _mm_stream_si64};
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mlock, mmap_anonymous};

use super::super::process::WorkerError;
use super::patterns::Cells;

const WORD_BYTES: usize = size_of::<u64>();

/// From now on this process gets memory of `node` alone; `set_mempolicy(2)`, `MPOL_BIND`.
pub(super) fn bind_to(node: u32) -> Result<(), WorkerError> {
    const MPOL_BIND: libc::c_long = 2;
    const NODES: usize = 1024;
    let mut mask = [0_u64; NODES / 64];
    let failed = |source| WorkerError::Bind { node, source };
    let index = usize::try_from(node).unwrap_or(usize::MAX);
    *mask.get_mut(index / 64).ok_or(failed(Errno::EINVAL))? |= 1 << (index % 64);
    // SAFETY: the mask lives over the call and has NODES bits; the kernel reads one fewer than told
    let done = unsafe {
        libc::syscall(libc::SYS_set_mempolicy, MPOL_BIND, mask.as_ptr(), NODES as libc::c_ulong + 1)
    };
    Errno::result(done).map(drop).map_err(failed)
}

/// A part of the address space, locked piece by piece. Given back when the process ends.
pub(super) struct Region {
    start: NonNull<u64>,
    mapped_bytes: usize,
    locked_bytes: usize,
}

// SAFETY: it is the only owner of its memory
unsafe impl Send for Region {}

impl Region {
    /// Address space for `bytes`, no memory yet.
    pub(super) fn map(bytes: usize) -> Result<Self, WorkerError> {
        let failed = |source| WorkerError::Map { bytes: bytes as u64, source };
        let length = NonZeroUsize::new(bytes).ok_or(failed(Errno::EINVAL))?;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: a new anonymous mapping at an address that the kernel chooses
        let start =
            unsafe { mmap_anonymous(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, flags) }
                .map_err(failed)?;
        // SAFETY: that mapping. A kernel without huge pages refuses; small ones do as well, slower
        let _ = unsafe { madvise(start, bytes, MmapAdvise::MADV_HUGEPAGE) };
        Ok(Self { start: start.cast(), mapped_bytes: bytes, locked_bytes: 0 })
    }

    /// Takes up to `bytes` more memory and holds it in place; says how much it took.
    pub(super) fn take(&mut self, bytes: usize) -> Result<usize, WorkerError> {
        let bytes = bytes.min(self.mapped_bytes - self.locked_bytes);
        if bytes > 0 {
            // SAFETY: within the mapping, by the line above
            unsafe {
                let from = self.start.cast::<u8>().add(self.locked_bytes);
                mlock(from.cast(), bytes).map_err(WorkerError::Lock)?;
            }
            self.locked_bytes += bytes;
        }
        Ok(bytes)
    }

    pub(super) fn locked_bytes(&self) -> usize {
        self.locked_bytes
    }

    /// The virtual address of its first cell.
    pub(super) fn start_address(&self) -> u64 {
        self.start.as_ptr() as u64
    }

    fn cell(&self, at: usize) -> *mut u64 {
        assert!(at < self.locked_bytes / WORD_BYTES, "cell {at} is out of the region");
        // SAFETY: within the locked part of the mapping, by the assertion
        unsafe { self.start.as_ptr().add(at) }
    }
}

impl Cells for Region {
    fn len(&self) -> usize {
        self.locked_bytes / WORD_BYTES
    }

    fn read(&mut self, at: usize) -> u64 {
        // SAFETY: a cell of ours, and no reference to it exists. Volatile: memory that is broken changes by itself
        unsafe { self.cell(at).read_volatile() }
    }

    /// Non-temporal: past the caches, so that what is read later comes from memory.
    fn write(&mut self, at: usize, value: u64) {
        // SAFETY: a cell of ours; SSE2 is part of x86-64
        unsafe { _mm_stream_si64(self.cell(at).cast(), value.cast_signed()) }
    }

    fn reread(&mut self, at: usize) -> u64 {
        let cell = self.cell(at);
        // SAFETY: a cell of ours; SSE2 is part of x86-64
        unsafe {
            _mm_clflush(cell.cast::<u8>());
            _mm_mfence();
            cell.read_volatile()
        }
    }

    fn settle(&mut self) {
        // SAFETY: SSE2 is part of x86-64
        unsafe { _mm_sfence() }
    }
}
