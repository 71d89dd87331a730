//! The API's description: docs/api/openapi.json is made of the table of operations and the wire types, and holds what
//! the router knows, no more and no less. `UPDATE_OPENAPI=1` writes the file anew.

mod operations;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use operations::{Extra, Gives, Operation, Takes};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use vetting_protocol::problem::Problem;

use super::*;
use crate::http::openapi::DOCUMENT;

/// Where the routes are, and what their paths begin with.
const SPACES: [&str; 7] = ["api", "agent", "boot", "grub", "healthz", "readyz", "metrics"];
const METHODS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
const PROBLEM: &str = "application/problem+json";

fn parameters(operation: &Operation) -> Vec<Value> {
    let in_path = operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut all: Vec<Value> = in_path
        .map(|name| {
            let schema = match name {
                "run" | "id" | "number" => json!({"type": "integer", "format": "int64", "minimum": 1}),
                "mac" => json!({"type": "string", "pattern": "^([0-9a-f]{2}:){5}[0-9a-f]{2}$"}),
                "action" => json!({"type": "string", "enum": ["on", "off", "cycle", "soft"]}),
                _ => json!({"type": "string", "minLength": 1}),
            };
            json!({"name": name, "in": "path", "required": true, "schema": schema})
        })
        .collect();
    all.extend(operation.query.iter().map(|query| {
        let schema = if query.kind == "integer" {
            json!({"type": "integer", "minimum": 1, "maximum": if query.name == "limit" { 1_000 } else { i64::MAX }})
        } else {
            json!({"type": query.kind})
        };
        json!({"name": query.name, "in": "query", "description": query.about, "schema": schema})
    }));
    let header = |name: &str, about: &str, required: bool| {
        let schema = json!({"type": "string"});
        json!({"name": name, "in": "header", "description": about, "required": required, "schema": schema})
    };
    if operation.has(Extra::Conditional) {
        all.push(header("If-Match", "The version it was made on, as `ETag` gave it", false));
    }
    if operation.has(Extra::Digest) {
        all.push(header("X-Content-SHA256", "SHA-256 of the body, 64 hex digits", true));
    }
    all
}

fn responses(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let mut headers = serde_json::Map::new();
    let mut header = |name: &str, about: &str| {
        headers.insert(name.to_owned(), json!({"description": about, "schema": {"type": "string"}}));
    };
    if operation.has(Extra::Paged) {
        header("Link", "The next page, `rel=\"next\"`; absent on the last");
    }
    if operation.has(Extra::Tagged) {
        header("ETag", "The version of what can be edited");
    }
    let json_body = |schema| json!({"application/json": {"schema": schema}});
    let (status, content) = match &operation.gives {
        Gives::Json(schema) => ("200", json_body(schema(generator))),
        Gives::Created(schema) => ("201", json_body(schema(generator))),
        Gives::Nothing => ("204", Value::Null),
        Gives::Other(kind) => ("200", json!({ *kind: {} })),
    };
    let mut good = json!({"description": if status == "204" { "Done" } else { "As asked" }});
    if !content.is_null() {
        good["content"] = content;
    }
    if !headers.is_empty() {
        good["headers"] = headers.into();
    }
    let mut all = json!({ status: good, "default": {"$ref": "#/components/responses/Problem"} });
    if operation.has(Extra::Conditional) {
        all["412"] = json!({"$ref": "#/components/responses/Problem"});
    }
    if !operation.has(Extra::Open) {
        all["401"] = json!({"$ref": "#/components/responses/Problem"});
    }
    all
}

fn described(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let space = operation.path.split('/').nth(1).unwrap();
    let (space, id) = match space {
        "api" => ("operators", operation.path.trim_start_matches("/api/v1/")),
        "agent" => ("agents", operation.path.trim_start_matches('/')),
        "boot" | "grub" => ("boot", operation.path.trim_start_matches('/')),
        _ => ("watching", operation.path.trim_start_matches('/')),
    };
    let words =
        id.split(['/', '-', '.']).filter(|word| *word != "v1").map(|word| word.trim_matches(['{', '}']));
    let id = [operation.method].into_iter().chain(words).collect::<Vec<_>>().join("_");
    let mut described = json!({
        "operationId": id,
        "tags": [space],
        "summary": operation.about,
        "parameters": parameters(operation),
        "responses": responses(operation, generator),
    });
    let body =
        |schema, required| json!({"required": required, "content": {"application/json": {"schema": schema}}});
    match &operation.takes {
        Takes::Nothing => {}
        Takes::Json(schema) => described["requestBody"] = body(schema(generator), true),
        Takes::MaybeJson(schema) => described["requestBody"] = body(schema(generator), false),
        Takes::Bytes => {
            described["requestBody"] = json!({"required": true, "content": {"application/octet-stream": {}}});
        }
    }
    if operation.has(Extra::Open) {
        described["security"] = json!([]);
    }
    if space == "boot" {
        described["servers"] = json!([{"url": "http://vetting-coordinator:8080"}]);
    }
    described
}

fn made() -> String {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        })
        .into_generator();
    let mut paths: BTreeMap<&str, Value> = BTreeMap::new();
    for operation in operations::all() {
        let at = paths.entry(operation.path).or_insert_with(|| json!({}));
        assert!(at.get(operation.method).is_none(), "{} {} twice", operation.method, operation.path);
        at[operation.method] = described(&operation, &mut generator);
    }
    let problem = generator.subschema_for::<Problem>();
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "vetting coordinator",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Vets server hardware. docs/api.md explains what stands here.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "https://vetting-coordinator:8443"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "responses": {"Problem": {
                "description": "Problem details (RFC 9457)", "content": { PROBLEM: {"schema": problem} },
            }},
        },
    });
    serde_json::to_string_pretty(&document).unwrap() + "\n"
}

#[test]
fn the_document_is_made_of_operations_and_wire_types() {
    let made = made();
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api/openapi.json");
        std::fs::write(path, &made).unwrap();
        return;
    }
    let differs = made.lines().zip(DOCUMENT.lines()).find(|(made, kept)| made != kept);
    assert!(
        made == DOCUMENT,
        "docs/api/openapi.json is not as the code says ({differs:?}); `make openapi` writes it anew"
    );
}

/// `warp::path!(…)` of a source text: the path with `{}` for what varies, and an example.
fn paths_of(source: &str) -> Vec<(String, String)> {
    source
        .split("warp::path!(")
        .skip(1)
        .map(|rest| {
            let segments = rest.split(')').next().unwrap().split(" / ");
            let (mut shape, mut example) = (String::new(), String::new());
            for segment in segments.map(str::trim) {
                let (part, value) = match segment {
                    ".." => ("{}", "x.efi"),
                    "String" => ("{}", "x1"),
                    "RunId" | "i64" => ("{}", "1"),
                    "MacAddress" => ("{}", MAC),
                    literal => (literal.trim_matches('"'), literal.trim_matches('"')),
                };
                shape = format!("{shape}/{part}");
                example = format!("{example}/{value}");
            }
            (shape, example)
        })
        .filter(|(shape, _)| SPACES.contains(&shape.split('/').nth(1).unwrap()))
        .collect()
}

fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("tests") {
            text += &sources(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &std::fs::read_to_string(&path).unwrap();
        }
    }
    text
}

fn shape(path: &str) -> String {
    let part = |part: &str| if part.starts_with('{') { "{}".to_owned() } else { part.to_owned() };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn the_router_knows_what_the_document_says_and_nothing_else() {
    let lab = Lab::open().await;
    let paths: BTreeMap<_, _> =
        paths_of(&sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http"))).into_iter().collect();
    let mut found = BTreeSet::new();
    for (shape, example) in &paths {
        for method in &METHODS {
            let boot = shape.starts_with("/boot") || shape.starts_with("/grub");
            let ask = if boot { Lab::http } else { Lab::https };
            let answer = ask(&lab, method.clone(), example).send().await.unwrap();
            let (status, allow) = (answer.status(), answer.headers().get("allow").cloned());
            let text = answer.text().await.unwrap();
            if status == StatusCode::METHOD_NOT_ALLOWED {
                assert!(allow.is_some_and(|allow| !allow.is_empty()), "{method} {example}");
            } else if !(status == StatusCode::NOT_FOUND && text.contains("no such path")) {
                found.insert(format!("{method} {shape}"));
            }
        }
    }
    let told: BTreeSet<_> = operations::all()
        .iter()
        .map(|operation| format!("{} {}", operation.method.to_uppercase(), shape(operation.path)))
        .collect();
    let untold: Vec<_> = found.difference(&told).collect();
    assert!(untold.is_empty(), "routes without a line in tests/openapi/operations.rs: {untold:?}");
    let unknown: Vec<_> = told.difference(&found).collect();
    assert!(unknown.is_empty(), "lines in tests/openapi/operations.rs without a route: {unknown:?}");
}

#[tokio::test]
async fn it_is_served_as_it_is_kept() {
    let lab = Lab::open().await;
    let answer = lab.https(Method::GET, "/api/v1/openapi.json").send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), DOCUMENT);
    let answer = lab.operator(Method::PUT, "runs/1/waivers").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["allow"]), (405, &"POST".parse().unwrap()));
}
