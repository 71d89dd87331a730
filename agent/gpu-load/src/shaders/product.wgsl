// Products of matrices whose elements are small whole numbers: every sum is exact, in whatever order and with whatever
// instructions it is made. A workgroup makes a square of 128 by 128, an invocation 8 by 8 of it.

override SIZE: u32 = 1024u;

// four elements of a line each; the left matrix is transposed, so that both are read alike
@group(0) @binding(1) var<storage, read> left: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> right: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> product: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> reference: array<vec4<f32>>;

// 8 steps of the sum, of 128 rows and of 128 columns
var<workgroup> rows: array<vec4<f32>, 256>;
var<workgroup> columns: array<vec4<f32>, 256>;

// Line by line: each element of `row` times `column`.
fn outer(row: vec4<f32>, column: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(row.x * column, row.y * column, row.z * column, row.w * column);
}

// Line by line. By constant numbers: a matrix that is indexed by others is not kept in registers.
fn put(at: u32, part: mat4x4<f32>) {
    product[at] = part[0];
    product[at + SIZE / 4u] = part[1];
    product[at + SIZE / 2u] = part[2];
    product[at + SIZE / 4u * 3u] = part[3];
}

@compute @workgroup_size(16, 16)
fn multiply(
    @builtin(workgroup_id) square: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) number: u32,
) {
    var upper_left = mat4x4<f32>();
    var upper_right = mat4x4<f32>();
    var lower_left = mat4x4<f32>();
    var lower_right = mat4x4<f32>();
    for (var k = 0u; k < SIZE; k += 8u) {
        let line = (k + number / 32u) * SIZE / 4u + number % 32u;
        rows[number] = left[line + square.y * 32u];
        columns[number] = right[line + square.x * 32u];
        workgroupBarrier();
        for (var step = 0u; step < 256u; step += 32u) {
            let upper = rows[step + local.y];
            let lower = rows[step + local.y + 16u];
            let near = columns[step + local.x];
            let far = columns[step + local.x + 16u];
            upper_left += outer(upper, near);
            upper_right += outer(upper, far);
            lower_left += outer(lower, near);
            lower_right += outer(lower, far);
        }
        workgroupBarrier();
    }
    let line = square.z * SIZE + square.y * 128u + local.y * 4u;
    let upper = line * SIZE / 4u + square.x * 32u + local.x;
    let lower = upper + 64u * SIZE / 4u;
    put(upper, upper_left);
    put(upper + 16u, upper_right);
    put(lower, lower_left);
    put(lower + 16u, lower_right);
}

// One invocation four elements; `id.z` numbers the copies of the product.
@compute @workgroup_size(16, 16)
fn compare(@builtin(global_invocation_id) id: vec3<u32>) {
    let element = id.y * SIZE / 4u + id.x;
    let at = id.z * SIZE * SIZE / 4u + element;
    // by their bits: a NaN need not differ from anything
    let expected = bitcast<vec4<u32>>(reference[element]);
    let found = bitcast<vec4<u32>>(product[at]);
    for (var part = 0u; part < 4u; part++) {
        if found[part] != expected[part] {
            note(vec2(0u, 4u * at + part), expected[part], found[part]);
        }
    }
}
