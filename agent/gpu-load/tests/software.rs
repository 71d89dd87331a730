//! The work itself, done by the CPU: Mesa's software Vulkan (lavapipe) runs the same kernels as a GPU.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed step fails the test")]
#![expect(clippy::disallowed_methods, reason = "starts the program under test")]

use std::process::Command;
use std::time::Duration;

use vetting_gpu_load::gpu::{self, Gpu};
use vetting_gpu_load::work::{Extent, work};
use vetting_gpu_load::{Document, FORMAT, Load, Wrong};

const MIB: u64 = 1 << 20;

fn software() -> Gpu {
    let adapter = gpu::adapters().into_iter().find(|adapter| !gpu::is_hardware(adapter));
    Gpu::open(&adapter.expect("Mesa's lavapipe (package mesa-vulkan-drivers) is here")).unwrap()
}

#[test]
fn every_answer_of_every_kind_of_work_is_right() {
    let extent = Extent {
        duration: Duration::ZERO,
        memory_bytes: 5 * MIB,
        matrix: 128,
        workgroups: 8,
        copy_bytes: 1 << 20,
    };
    // the faults that `work` plants to try its checks must be found as well, or it fails
    let done = work(&software(), &extent).unwrap();
    assert_eq!(done.memory.tested_bytes, 5 * MIB);
    assert_eq!(done.memory.rounds, 1);
    assert_eq!(done.products.results, 128 * 128 * 16);
    assert_eq!(done.chains.results, 8 * 256 * 4);
    assert_eq!(done.link.bytes, 4 * MIB);
    for wrong in [&done.memory.wrong, &done.products.wrong, &done.chains.wrong, &done.link.wrong] {
        assert_eq!(*wrong, Wrong::default());
    }
}

#[test]
fn software_is_no_gpu_for_the_program() {
    let answer = Command::new(env!("CARGO_BIN_EXE_gpu-load"))
        .args(["0000:3b:00.0", "--seconds", "1"])
        .output()
        .unwrap();
    assert!(answer.status.success(), "{answer:?}");
    let document: Document = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(document.format, FORMAT);
    let Load::NoGpu { others } = document.load else { panic!("{:?}", document.load) };
    assert!(!others.iter().any(|gpu| gpu.name.contains("llvmpipe")), "{others:?}");
}
