//! Patterns through all memory that the driver gives: written everywhere, then read and inverted, then read again, so that a
//! word which another place overwrites is found as well as one that does not keep its bits.

use crate::clock;
use crate::gpu::{Gpu, GpuError, Kernel};
use crate::patterns::Pattern;
use crate::tally::{self, Tally, WORKGROUP};
use crate::{Memory as Report, Wrong};

/// Size of a part, bytes: one kernel goes through it in well below a second.
const PART_BYTES: u64 = 256 << 20;
/// The smallest part: what is left below it is not taken.
const SMALLEST_BYTES: u64 = 1 << 20;
/// What is given back once the driver gives no more: it needs memory for the work itself.
const HEADROOM_BYTES: u64 = 512 << 20;
/// The word in which a fault is planted.
const PLANTED: u32 = 77;
/// More workgroups than the largest GPU can have at once.
const MOST_WORKGROUPS: u32 = 1 << 14;
/// What one round reads and writes, as often as there is memory: written, read and written, read.
const MOVED: u64 = 4;

pub(crate) struct Memory<'g> {
    gpu: &'g Gpu,
    orders: wgpu::Buffer,
    tally: Tally,
    parts: Vec<Part>,
    report: Report,
    seconds: f64,
}

struct Part {
    buffer: wgpu::Buffer,
    /// In the order of [`STEPS`].
    kernels: Vec<Kernel>,
}

/// What is done with a part.
#[derive(Debug, Clone, Copy)]
enum Step {
    Fill,
    Invert,
    Check,
    CheckInverted,
}

/// The shader's names of them.
const STEPS: [(Step, &str); 4] = [
    (Step::Fill, "fill"),
    (Step::Invert, "invert"),
    (Step::Check, "check"),
    (Step::CheckInverted, "check_inverted"),
];

impl<'g> Memory<'g> {
    /// Takes all memory that the driver gives, but not more than `most_bytes`.
    pub(crate) fn take(gpu: &'g Gpu, most_bytes: u64) -> Result<Self, GpuError> {
        let (orders, tally) = (gpu.orders(5), Tally::new(gpu)?);
        let shader = [tally::SHADER, include_str!("shaders/memory.wgsl")].concat();
        let mut parts: Vec<Part> = Vec::new();
        for buffer in buffers(gpu, most_bytes)? {
            let mut kernels = Vec::new();
            for (step, name) in STEPS {
                let bound = [(1, &buffer), (2, &orders), (0, tally.buffer())];
                // what only writes counts nothing
                let bound = if matches!(step, Step::Fill) { &bound[..2] } else { &bound[..] };
                kernels.push(match parts.first() {
                    Some(first) => gpu.on(&first.kernels[step as usize], bound)?,
                    None => gpu.kernel(&shader, name, &[], bound)?,
                });
            }
            parts.push(Part { buffer, kernels });
        }
        let tested_bytes = parts.iter().map(|part| part.buffer.size()).sum();
        let report = Report { tested_bytes, rounds: 0, bytes_per_second: 0.0, wrong: Wrong::default() };
        Ok(Self { gpu, orders, tally, parts, report, seconds: 0.0 })
    }

    /// Plants a wrong word and looks whether it is found.
    pub(crate) fn prove(&self) -> Result<(), GpuError> {
        let pattern = Pattern::hashed(0);
        self.start(0, pattern, Step::Fill);
        self.gpu.wait()?;
        self.gpu.tell(&self.parts[0].buffer, PLANTED.into(), &[!pattern.of_part(0).word(PLANTED)]);
        self.start(0, pattern, Step::Check);
        self.taken()?.proves("memory", 1, |wrong| wrong.place == PLANTED.into())
    }

    /// One round through all of it.
    pub(crate) fn round(&mut self) -> Result<(), GpuError> {
        let begun = clock::now();
        let pattern = Pattern::of_round(self.report.rounds);
        for step in [Step::Fill, Step::Invert, Step::CheckInverted] {
            for number in 0..self.parts.len() {
                self.start(number, pattern, step);
                self.gpu.wait()?;
            }
        }
        let wrong = self.taken()?;
        self.report.wrong.add(wrong);
        self.report.rounds = self.report.rounds.saturating_add(1);
        self.seconds += begun.elapsed().as_secs_f64();
        Ok(())
    }

    pub(crate) fn report(self) -> Report {
        let moved = self.report.tested_bytes * MOVED * u64::from(self.report.rounds);
        Report { bytes_per_second: moved as f64 / self.seconds, ..self.report }
    }

    fn start(&self, number: usize, pattern: Pattern, step: Step) {
        let part = &self.parts[number];
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let groups = u32::try_from(part.buffer.size() / 16).unwrap_or(u32::MAX);
        let most = MOST_WORKGROUPS.min(self.gpu.most_workgroups());
        let workgroups = groups.div_ceil(WORKGROUP).min(most);
        let Pattern { kind, seed } = pattern.of_part(number);
        self.gpu.tell(&self.orders, 0, &[kind, seed, number, groups, workgroups * WORKGROUP]);
        self.gpu.start(&[(&part.kernels[step as usize], [workgroups, 1, 1])]);
    }

    fn taken(&self) -> Result<Wrong, GpuError> {
        let before = |part: u32| -> u64 {
            self.parts[..(part as usize).min(self.parts.len())]
                .iter()
                .map(|part| part.buffer.size() / 4)
                .sum()
        };
        self.tally.take(self.gpu, |part, word| before(part) + u64::from(word))
    }
}

/// Buffers in all memory that the driver gives, but not more than `most_bytes`; at least one.
fn buffers(gpu: &Gpu, most_bytes: u64) -> Result<Vec<wgpu::Buffer>, GpuError> {
    let mut buffers: Vec<wgpu::Buffer> = Vec::new();
    let mut size = PART_BYTES.min(gpu.largest_buffer());
    let mut left = most_bytes;
    let mut is_full = false;
    while size.min(left) >= SMALLEST_BYTES {
        size = size.min(left / SMALLEST_BYTES * SMALLEST_BYTES);
        match gpu.buffer(size) {
            Ok(buffer) => {
                buffers.push(buffer);
                left -= size;
            }
            Err(GpuError::NoMemory) => {
                is_full = true;
                size /= 2;
            }
            Err(error) => return Err(error),
        }
    }
    let mut headroom = 0;
    while is_full && headroom < HEADROOM_BYTES {
        headroom += buffers.pop().ok_or(GpuError::NoMemory)?.size();
    }
    gpu.wait()?;
    if buffers.is_empty() { Err(GpuError::NoMemory) } else { Ok(buffers) }
}
