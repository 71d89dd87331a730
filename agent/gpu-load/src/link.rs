//! Copies from the host's memory to the GPU's and back, compared on both sides.

use crate::clock;
use crate::gpu::{Gpu, GpuError, Kernel};
use crate::patterns::Pattern;
use crate::tally::{self, Tally};
use crate::{Link as Report, Mismatch, Wrong};

/// How often each way in a round: one copy is short beside what its start costs.
const TIMES: u32 = 8;
/// Invocations of a workgroup, as the shader has it.
const WORKGROUP: u32 = 256;
/// Wrong words that are kept.
const KEPT: usize = 8;

pub(crate) struct Link<'g> {
    gpu: &'g Gpu,
    pattern: Pattern,
    content: Vec<u8>,
    buffer: wgpu::Buffer,
    landing: wgpu::Buffer,
    check: Kernel,
    workgroups: u32,
    tally: Tally,
    report: Report,
    seconds: (f64, f64),
}

impl<'g> Link<'g> {
    /// Copies of so many bytes.
    pub(crate) fn new(gpu: &'g Gpu, bytes: u32) -> Result<Self, GpuError> {
        let pattern = Pattern::hashed(1);
        let content = (0..bytes / 4).flat_map(|place| pattern.word(place).to_le_bytes()).collect();
        let (buffer, landing) = (gpu.buffer(bytes.into())?, gpu.landing(bytes.into()));
        let (orders, tally) = (gpu.orders(5), Tally::new(gpu)?);
        let groups = bytes / 16;
        let workgroups = groups.div_ceil(WORKGROUP).min(gpu.most_workgroups());
        gpu.tell(&orders, 0, &[pattern.kind, pattern.seed, 0, groups, workgroups * WORKGROUP]);
        let shader = [tally::SHADER, include_str!("shaders/memory.wgsl")].concat();
        let check = gpu.kernel(&shader, "check", &[], &[(0, tally.buffer()), (1, &buffer), (2, &orders)])?;
        let report = Report {
            bytes: 0,
            to_gpu_bytes_per_second: 0.0,
            from_gpu_bytes_per_second: 0.0,
            wrong: Wrong::default(),
        };
        Ok(Self {
            gpu,
            pattern,
            content,
            buffer,
            landing,
            check,
            workgroups,
            tally,
            report,
            seconds: (0.0, 0.0),
        })
    }

    /// Copies there and back.
    pub(crate) fn round(&mut self) -> Result<(), GpuError> {
        let begun = clock::now();
        for _ in 0..TIMES {
            self.gpu.send(&self.buffer, &self.content);
            self.gpu.wait()?;
        }
        self.seconds.0 += begun.elapsed().as_secs_f64();
        self.gpu.start(&[(&self.check, [self.workgroups, 1, 1])]);
        let wrong = self.tally.take(self.gpu, |_, word| word.into())?;
        self.report.wrong.add(wrong);
        let begun = clock::now();
        self.gpu.copy(&self.buffer, &self.landing, TIMES);
        self.gpu.wait()?;
        self.seconds.1 += begun.elapsed().as_secs_f64();
        let words = self.gpu.landed(&self.landing)?;
        self.report.wrong.add(self.compared(&words));
        self.report.bytes += self.content.len() as u64 * u64::from(TIMES);
        Ok(())
    }

    pub(crate) fn report(self) -> Report {
        let bytes = self.report.bytes as f64;
        Report {
            to_gpu_bytes_per_second: bytes / self.seconds.0,
            from_gpu_bytes_per_second: bytes / self.seconds.1,
            ..self.report
        }
    }

    fn compared(&self, words: &[u32]) -> Wrong {
        let mut wrong = Wrong::default();
        for (place, found) in (0..).zip(words) {
            let expected = self.pattern.word(place);
            if *found != expected {
                wrong.count += 1;
                if wrong.first.len() < KEPT {
                    wrong.first.push(Mismatch { place: place.into(), expected, found: *found });
                }
            }
        }
        wrong
    }
}
