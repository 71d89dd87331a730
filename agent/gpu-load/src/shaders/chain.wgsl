// Long chains of whole-number arithmetic, whose ends the host knows.

override LENGTH: u32 = 1024u;

@group(0) @binding(1) var<storage, read> ends: array<vec4<u32>>;

@compute @workgroup_size(256)
fn chain(@builtin(global_invocation_id) id: vec3<u32>) {
    let start = id.x % arrayLength(&ends);
    var state = vec4(4u * start) + vec4(0u, 1u, 2u, 3u);
    for (var step = 0u; step < LENGTH; step++) {
        state = hash(state);
    }
    let expected = ends[start];
    for (var part = 0u; part < 4u; part++) {
        if state[part] != expected[part] {
            note(vec2(0u, id.x), expected[part], state[part]);
        }
    }
}
