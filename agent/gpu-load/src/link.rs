//! Copies from the host's memory to the GPU's and back, each compared where it arrives.

use std::time::Duration;

use crate::clock;
use crate::gpu::{Gpu, GpuError, Kernel};
use crate::patterns::Pattern;
use crate::tally::{self, KEPT, Tally, WORKGROUP};
use crate::{Link as Report, Mismatch, Wrong};

/// How often each way in a round.
const TIMES: u32 = 4;
/// Seeds of what is sent, by turns.
const SENT: [u32; 2] = [1, 2];
/// The first seed of what is fetched, each copy another: the GPU never holds what is sent next.
const FETCHED_FROM: u32 = 3;
/// The word in which a fault is planted.
const PLANTED: u32 = 99;

pub(crate) struct Link<'g> {
    gpu: &'g Gpu,
    /// What is sent, by turns: what is there before a copy is never what it brings.
    contents: [(Pattern, Vec<u8>); 2],
    buffer: wgpu::Buffer,
    landing: wgpu::Buffer,
    orders: wgpu::Buffer,
    fill: Kernel,
    check: Kernel,
    groups: u32,
    workgroups: u32,
    tally: Tally,
    copies: u32,
    wrong: Wrong,
    to_gpu: Duration,
    from_gpu: Duration,
}

impl<'g> Link<'g> {
    /// Copies of so many bytes.
    pub(crate) fn new(gpu: &'g Gpu, bytes: u32) -> Result<Self, GpuError> {
        let content = |pattern: Pattern| {
            (pattern, (0..bytes / 4).flat_map(|place| pattern.word(place).to_le_bytes()).collect())
        };
        let contents = SENT.map(|seed| content(Pattern::hashed(seed)));
        let (buffer, landing) = (gpu.buffer(bytes.into())?, gpu.landing(bytes.into()));
        let (orders, tally) = (gpu.orders(5), Tally::new(gpu)?);
        let groups = bytes / 16;
        let workgroups = groups.div_ceil(WORKGROUP).min(gpu.most_workgroups());
        let shader = [tally::SHADER, include_str!("shaders/memory.wgsl")].concat();
        let fill = gpu.kernel(&shader, "fill", &[], &[(1, &buffer), (2, &orders)])?;
        let check = gpu.kernel(&shader, "check", &[], &[(0, tally.buffer()), (1, &buffer), (2, &orders)])?;
        Ok(Self {
            gpu,
            contents,
            buffer,
            landing,
            orders,
            fill,
            check,
            groups,
            workgroups,
            tally,
            copies: 0,
            wrong: Wrong::default(),
            to_gpu: Duration::ZERO,
            from_gpu: Duration::ZERO,
        })
    }

    /// Plants a wrong word among those that were sent, and looks whether both sides find it.
    pub(crate) fn prove(&self) -> Result<(), GpuError> {
        let (pattern, content) = &self.contents[0];
        self.gpu.send(&self.buffer, content);
        self.gpu.tell(&self.buffer, PLANTED.into(), &[!pattern.word(PLANTED)]);
        let is_planted = |wrong: &Mismatch| wrong.place == PLANTED.into();
        self.arrived(*pattern)?.proves("copies to the GPU", 1, is_planted)?;
        self.gpu.copy(&self.buffer, &self.landing);
        let words = self.gpu.landed(&self.landing)?;
        compared(*pattern, &words).proves("copies from the GPU", 1, is_planted)
    }

    /// Copies there and back.
    pub(crate) fn round(&mut self) -> Result<(), GpuError> {
        for _ in 0..TIMES {
            let (pattern, content) = &self.contents[self.copies as usize % 2];
            let begun = clock::now();
            self.gpu.send(&self.buffer, content);
            self.gpu.wait()?;
            self.to_gpu += begun.elapsed();
            let wrong = self.arrived(*pattern)?;
            self.wrong.add(wrong);

            let pattern = Pattern::hashed(self.copies.wrapping_add(FETCHED_FROM));
            self.run(&self.fill, pattern);
            self.gpu.wait()?;
            let begun = clock::now();
            self.gpu.copy(&self.buffer, &self.landing);
            self.gpu.wait()?;
            self.from_gpu += begun.elapsed();
            self.wrong.add(compared(pattern, &self.gpu.landed(&self.landing)?));
            self.copies = self.copies.wrapping_add(1);
        }
        Ok(())
    }

    pub(crate) fn report(self) -> Report {
        let bytes = self.buffer.size() * u64::from(self.copies);
        Report {
            bytes,
            to_gpu_bytes_per_second: bytes as f64 / self.to_gpu.as_secs_f64(),
            from_gpu_bytes_per_second: bytes as f64 / self.from_gpu.as_secs_f64(),
            wrong: self.wrong,
        }
    }

    /// What of the pattern did not arrive at the GPU.
    fn arrived(&self, pattern: Pattern) -> Result<Wrong, GpuError> {
        self.run(&self.check, pattern);
        self.tally.take(self.gpu, |_, word| word.into())
    }

    fn run(&self, kernel: &Kernel, pattern: Pattern) {
        let Pattern { kind, seed } = pattern;
        self.gpu.tell(&self.orders, 0, &[kind, seed, 0, self.groups, self.workgroups * WORKGROUP]);
        self.gpu.start(&[(kernel, [self.workgroups, 1, 1])]);
    }
}

/// What of the pattern did not arrive at the host.
fn compared(pattern: Pattern, words: &[u32]) -> Wrong {
    let mut wrong = Wrong::default();
    for (place, found) in (0..).zip(words) {
        let expected = pattern.word(place);
        if *found != expected {
            wrong.count += 1;
            if wrong.first.len() < KEPT {
                wrong.first.push(Mismatch { place: place.into(), expected, found: *found });
            }
        }
    }
    wrong
}
