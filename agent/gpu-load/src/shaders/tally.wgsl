// Where answers that are wrong are counted, and the first of them kept.

const KEPT: u32 = 8u;
// beyond it no more are counted, so that the count never comes round to nothing
const MANY: u32 = 0x80000000u;

struct Tally {
    count: atomic<u32>,
    // place (high and low half), expected, found
    first: array<vec4<u32>, KEPT>,
}

@group(0) @binding(0) var<storage, read_write> tally: Tally;

fn note(place: vec2<u32>, expected: u32, found: u32) {
    let number = atomicAdd(&tally.count, 1u);
    if number < KEPT {
        tally.first[number] = vec4<u32>(place, expected, found);
    }
    if number >= MANY {
        atomicStore(&tally.count, MANY);
    }
}

// PCG-RXS-M-XS (Jarzynski and Olano, Hash Functions for GPU Rendering, 2020); `hash` of patterns.rs is the same.
fn hash(words: vec4<u32>) -> vec4<u32> {
    let state = words * 747796405u + 2891336453u;
    let mixed = ((state >> ((state >> vec4(28u)) + 4u)) ^ state) * 277803737u;
    return (mixed >> vec4(22u)) ^ mixed;
}
