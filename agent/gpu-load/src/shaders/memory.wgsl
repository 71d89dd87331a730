// Patterns into memory and out of it again. Each invocation takes every `stride`th group of four words.

struct Orders {
    // which pattern: see patterns.rs
    pattern: u32,
    seed: u32,
    // number of the part, and its size in groups of four words
    part: u32,
    groups: u32,
    stride: u32,
}

@group(0) @binding(1) var<storage, read_write> memory: array<vec4<u32>>;
@group(0) @binding(2) var<uniform> orders: Orders;

fn pattern(group: u32) -> vec4<u32> {
    let words = vec4(4u * group) + vec4(0u, 1u, 2u, 3u);
    switch orders.pattern {
        case 0u: { return hash(words ^ vec4(orders.seed)); }
        case 1u: { return vec4(orders.seed); }
        default: { return vec4(1u) << ((words + vec4(orders.seed)) & vec4(31u)); }
    }
}

fn compare(group: u32, expected: vec4<u32>) {
    let found = memory[group];
    if all(found == expected) {
        return;
    }
    for (var word = 0u; word < 4u; word++) {
        if found[word] != expected[word] {
            note(vec2(orders.part, 4u * group + word), expected[word], found[word]);
        }
    }
}

@compute @workgroup_size(256)
fn fill(@builtin(global_invocation_id) id: vec3<u32>) {
    for (var group = id.x; group < orders.groups; group += orders.stride) {
        memory[group] = pattern(group);
    }
}

// What was written is compared, and its complement written.
@compute @workgroup_size(256)
fn invert(@builtin(global_invocation_id) id: vec3<u32>) {
    for (var group = id.x; group < orders.groups; group += orders.stride) {
        let expected = pattern(group);
        compare(group, expected);
        memory[group] = ~expected;
    }
}

@compute @workgroup_size(256)
fn check(@builtin(global_invocation_id) id: vec3<u32>) {
    for (var group = id.x; group < orders.groups; group += orders.stride) {
        compare(group, pattern(group));
    }
}

@compute @workgroup_size(256)
fn check_inverted(@builtin(global_invocation_id) id: vec3<u32>) {
    for (var group = id.x; group < orders.groups; group += orders.stride) {
        compare(group, ~pattern(group));
    }
}
