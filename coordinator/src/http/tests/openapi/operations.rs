//! The table of operations: what each route takes and gives.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use vetting_protocol::agent_api::{
    Acknowledgement, AgentCrash, ArtifactReceipt, Batch, ClaimRequest, ClaimResponse, Heartbeat, HoldReport,
    PlanAnswer,
};
use vetting_protocol::enrolment::{
    Adopt, Adopted, EnrolAnswer, EnrolRequest, EnrolmentTokenCreate, EnrolmentTokenCreated,
    EnrolmentTokenView, MacAdd, PendingView,
};
use vetting_protocol::exchange::{HostImport, HostImportView, RunImportView, SampleView};
use vetting_protocol::host_mode::{HostDirective, HostHeartbeat, HostInventory};
use vetting_protocol::housekeeping::{NotificationsView, RetriedView, SweepOrder, SweepView};
use vetting_protocol::models::{ComponentView, ModelCreate, ModelEdit, ModelView};
use vetting_protocol::network_test::{NetworkTestAnswer, NetworkTestRequest};
use vetting_protocol::operator_api::{
    EventView, HostAgentToken, HostCreate, HostEdit, HostView, NetbootView, RunCreate, RunDetail, RunRelease,
    RunRetry, RunSummary, TokenCreate, TokenCreated, TokenView, VerdictView, WaiverCreate, WaiverWithdraw,
};
use vetting_protocol::power::{BmcSettings, MediaOrder, PduSettings, PduView, PowerView};
use vetting_protocol::profile::ProfileView;
use vetting_protocol::queue::QueueView;
use vetting_protocol::users::{UserCreate, UserEdit, UserView};

/// Makes the schema of a type, by reference where it has a name.
pub type Schemed = fn(&mut SchemaGenerator) -> Schema;

/// What a request carries.
pub enum Takes {
    /// Nothing.
    Nothing,
    /// JSON.
    Json(Schemed),
    /// JSON, or nothing.
    MaybeJson(Schemed),
    /// Bytes.
    Bytes,
}

/// What a good answer is.
pub enum Gives {
    /// 200 and JSON.
    Json(Schemed),
    /// 201 and JSON.
    Created(Schemed),
    /// 204.
    Nothing,
    /// 200 and something of this media type.
    Other(&'static str),
}

/// Extras of an operation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// A list in pages: `Link`.
    Paged,
    /// The answer has an `ETag`.
    Tagged,
    /// `If-Match` is looked at.
    Conditional,
    /// No token is needed.
    Open,
    /// `X-Content-SHA256` is needed.
    Digest,
}

/// A parameter of the query.
pub struct Query {
    pub name: &'static str,
    /// `string`, `integer` or `boolean`.
    pub kind: &'static str,
    pub about: &'static str,
}

/// One method of one path.
pub struct Operation {
    pub method: &'static str,
    pub path: &'static str,
    pub about: &'static str,
    pub query: Vec<Query>,
    pub takes: Takes,
    pub gives: Gives,
    pub extras: Vec<Extra>,
}

impl Operation {
    pub fn has(&self, extra: Extra) -> bool {
        self.extras.contains(&extra)
    }

    fn with(mut self, extras: &[Extra]) -> Self {
        self.extras.extend_from_slice(extras);
        self
    }

    fn asking(mut self, name: &'static str, kind: &'static str, about: &'static str) -> Self {
        self.query.push(Query { name, kind, about });
        self
    }
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

fn list<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<Vec<T>>()
}

fn object(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({ "type": "object" })
}

fn retry(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({
        "type": "object", "properties": {"receiver": {"type": ["string", "null"]}}, "additionalProperties": false
    })
}

fn operation(
    method: &'static str,
    path: &'static str,
    about: &'static str,
    takes: Takes,
    gives: Gives,
) -> Operation {
    Operation { method, path, about, query: Vec::new(), takes, gives, extras: Vec::new() }
}

/// Every operation there is.
pub fn all() -> Vec<Operation> {
    [watching(), hosts(), power(), models(), enrolment(), runs(), rest(), agents(), boot()]
        .into_iter()
        .flatten()
        .collect()
}

use Extra::{Conditional, Digest, Open, Paged, Tagged};
use Gives::{Created, Json, Other};
use Takes::{Bytes, MaybeJson, Nothing};

fn watching() -> Vec<Operation> {
    let get = |path, about, kind| operation("get", path, about, Nothing, Other(kind));
    vec![
        get("/healthz", "Whether the listener works", "text/plain").with(&[Open]),
        get("/readyz", "Whether the coordinator can do its work", "text/plain").with(&[Open]),
        get("/metrics", "Metrics in the text format of Prometheus", "text/plain"),
        get("/api/v1/openapi.json", "This document", "application/vnd.oai.openapi+json").with(&[Open]),
    ]
}

fn hosts() -> Vec<Operation> {
    let host = "/api/v1/hosts/{name}";
    let macs = "/api/v1/hosts/{name}/macs";
    let mac = "/api/v1/hosts/{name}/macs/{mac}";
    let agent = "/api/v1/hosts/{name}/agent-token";
    vec![
        operation("get", "/api/v1/hosts", "Registered machines, by name", Nothing, Json(list::<HostView>))
            .asking("after", "string", "Only those whose names come after this one")
            .asking("limit", "integer", "So many, at most 1000; all, if absent")
            .with(&[Paged]),
        operation(
            "post",
            "/api/v1/hosts",
            "Registers a machine",
            Takes::Json(of::<HostCreate>),
            Created(of::<HostView>),
        )
        .with(&[Tagged]),
        operation(
            "post",
            "/api/v1/host-imports",
            "Registers every machine of a list, or none",
            Takes::Json(of::<HostImport>),
            Json(of::<HostImportView>),
        ),
        operation("get", host, "A machine", Nothing, Json(of::<HostView>)).with(&[Tagged]),
        operation("patch", host, "Edits a machine", Takes::Json(of::<HostEdit>), Json(of::<HostView>))
            .with(&[Tagged, Conditional]),
        operation("delete", host, "Removes a machine", Nothing, Gives::Nothing)
            .asking("with_runs", "boolean", "Also every run of it, with its results and files")
            .with(&[Conditional]),
        operation("post", macs, "Names a further card", Takes::Json(of::<MacAdd>), Created(of::<HostView>)),
        operation("delete", mac, "Takes a further card away", Nothing, Gives::Nothing),
        operation(
            "delete",
            "/api/v1/hosts/{name}/identity",
            "Forgets the recorded UUID: that of the next claim is recorded",
            Nothing,
            Gives::Nothing,
        ),
        operation(
            "post",
            agent,
            "Makes the token of its agent in host mode",
            Nothing,
            Json(of::<HostAgentToken>),
        ),
        operation("delete", agent, "Revokes the token of its agent", Nothing, Json(object)),
    ]
}

fn power() -> Vec<Operation> {
    let power = "/api/v1/hosts/{name}/power";
    let switch = "/api/v1/hosts/{name}/power/{action}";
    let bmc = "/api/v1/hosts/{name}/bmc";
    let media = "/api/v1/hosts/{name}/media";
    let pdu = "/api/v1/hosts/{name}/pdu";
    let outlet = "/api/v1/hosts/{name}/pdu/{action}";
    vec![
        operation("get", power, "Whether a machine is on", Nothing, Json(of::<PowerView>)),
        operation("post", switch, "Switches a machine: on, off, cycle or soft", Nothing, Gives::Nothing),
        operation("put", bmc, "Tells how its BMC is reached", Takes::Json(of::<BmcSettings>), Gives::Nothing),
        operation("delete", bmc, "Forgets its BMC", Nothing, Gives::Nothing),
        operation(
            "put",
            media,
            "Puts an image into its virtual drive",
            Takes::Json(of::<MediaOrder>),
            Gives::Nothing,
        ),
        operation("delete", media, "Empties its virtual drive", Nothing, Gives::Nothing),
        operation("get", pdu, "How its outlet is switched", Nothing, Json(of::<PduView>)),
        operation(
            "put",
            pdu,
            "Tells how its outlet is switched",
            Takes::Json(of::<PduSettings>),
            Gives::Nothing,
        ),
        operation("delete", pdu, "Forgets its outlet", Nothing, Gives::Nothing),
        operation("post", outlet, "Switches its outlet: on, off or cycle", Nothing, Gives::Nothing),
    ]
}

fn models() -> Vec<Operation> {
    let model = "/api/v1/models/{name}";
    let part = "/api/v1/components/{serial}";
    vec![
        operation("get", "/api/v1/models", "Models", Nothing, Json(list::<ModelView>))
            .asking("after", "string", "Only those whose names come after this one")
            .asking("limit", "integer", "So many, at most 1000; all, if absent")
            .with(&[Paged]),
        operation(
            "post",
            "/api/v1/models",
            "Adds a model",
            Takes::Json(of::<ModelCreate>),
            Created(of::<ModelView>),
        )
        .with(&[Tagged]),
        operation("get", model, "A model", Nothing, Json(of::<ModelView>)).with(&[Tagged]),
        operation("patch", model, "Edits a model", Takes::Json(of::<ModelEdit>), Json(of::<ModelView>))
            .with(&[Tagged, Conditional]),
        operation("delete", model, "Removes a model", Nothing, Gives::Nothing).with(&[Conditional]),
        operation("get", "/api/v1/profiles", "The three profiles", Nothing, Json(list::<ProfileView>)),
        operation("get", "/api/v1/profiles/{name}", "A profile", Nothing, Json(of::<ProfileView>)),
        operation(
            "get",
            part,
            "Where a part was, the newest run first",
            Nothing,
            Json(list::<ComponentView>),
        )
        .asking("before", "integer", "Only older runs than this")
        .asking("limit", "integer", "The newest so many runs: 200, at most 1000")
        .with(&[Paged]),
    ]
}

fn enrolment() -> Vec<Operation> {
    let tokens = "/api/v1/enrolment/tokens";
    let make = Takes::Json(of::<EnrolmentTokenCreate>);
    vec![
        operation("get", tokens, "Enrolment tokens", Nothing, Json(list::<EnrolmentTokenView>)),
        operation("post", tokens, "Makes an enrolment token", make, Created(of::<EnrolmentTokenCreated>)),
        operation(
            "delete",
            "/api/v1/enrolment/tokens/{id}",
            "Revokes an enrolment token",
            Nothing,
            Gives::Nothing,
        ),
        operation(
            "get",
            "/api/v1/enrolment/pending",
            "Machines that wait, the longest first",
            Nothing,
            Json(list::<PendingView>),
        ),
        operation(
            "post",
            "/api/v1/enrolment/pending/{code}/adopt",
            "Takes a machine in",
            Takes::Json(of::<Adopt>),
            Created(of::<Adopted>),
        ),
        operation(
            "post",
            "/api/v1/enrolment/pending/{code}/reject",
            "Turns a machine away",
            Nothing,
            Json(object),
        ),
    ]
}

fn runs() -> Vec<Operation> {
    let summary = || Json(of::<RunSummary>);
    let verdict = || Json(of::<VerdictView>);
    let waive = Takes::Json(of::<WaiverCreate>);
    let withdraw = Takes::Json(of::<WaiverWithdraw>);
    vec![
        operation("get", "/api/v1/runs", "Runs, the newest first", Nothing, Json(list::<RunSummary>))
            .asking("host", "string", "Only those of this host")
            .asking("before", "integer", "Only older ones than this run")
            .asking("limit", "integer", "So many: 200, at most 1000")
            .with(&[Paged]),
        operation(
            "post",
            "/api/v1/runs",
            "Starts a run",
            Takes::Json(of::<RunCreate>),
            Created(of::<RunSummary>),
        ),
        operation(
            "post",
            "/api/v1/run-imports",
            "Takes the results of a machine that worked alone: the files of its results folder, as a tar",
            Bytes,
            Json(of::<RunImportView>),
        )
        .asking("host", "string", "Name of the machine; absent: found by its cards, or registered")
        .asking("incomplete", "boolean", "Also take a run that broke off; it counts as failed")
        .asking(
            "other_verdict",
            "boolean",
            "Take a run whose report has another verdict than is made here",
        ),
        operation("get", "/api/v1/runs/{run}", "A run", Nothing, Json(of::<RunDetail>)),
        operation(
            "get",
            "/api/v1/runs/{run}/measurements",
            "Every sample of a run, in the order they were taken",
            Nothing,
            Json(list::<SampleView>),
        )
        .asking("after", "integer", "Only those with a greater key")
        .asking("limit", "integer", "So many: 10000, at most 50000")
        .with(&[Paged]),
        operation("post", "/api/v1/runs/{run}/abort", "Aborts a run", Nothing, summary()),
        operation(
            "post",
            "/api/v1/runs/{run}/release",
            "Lets a held machine go",
            MaybeJson(of::<RunRelease>),
            summary(),
        ),
        operation(
            "post",
            "/api/v1/runs/{run}/retry",
            "Runs one stage of a held machine again",
            Takes::Json(of::<RunRetry>),
            summary(),
        ),
        operation(
            "post",
            "/api/v1/runs/{run}/resume",
            "Runs every stage again that did not pass",
            Nothing,
            summary(),
        ),
        operation("get", "/api/v1/runs/{run}/verdict", "The verdict, explained", Nothing, verdict()),
        operation(
            "post",
            "/api/v1/runs/{run}/waivers",
            "Waives a finding",
            waive,
            Created(of::<VerdictView>),
        ),
        operation(
            "post",
            "/api/v1/runs/{run}/waivers/{number}/withdraw",
            "Takes a waiver back",
            withdraw,
            verdict(),
        ),
        operation(
            "get",
            "/api/v1/runs/{run}/artifacts/{kind}",
            "The newest file of a kind",
            Nothing,
            Other("application/octet-stream"),
        ),
    ]
}

fn rest() -> Vec<Operation> {
    let test = "/api/v1/notifications/{receiver}/test";
    let again = "/api/v1/notifications/retry";
    vec![
        operation("get", "/api/v1/events", "The event log, oldest first", Nothing, Json(list::<EventView>))
            .asking("after", "integer", "Only those with a greater key")
            .asking("run", "integer", "Only those of this run; not with `host`")
            .asking("host", "string", "Only those of this host, its runs' among them; not with `run`")
            .asking("kind", "string", "Only those whose kind is like this: `*` anything, `?` one letter")
            .asking("limit", "integer", "So many: 200, at most 1000")
            .with(&[Paged]),
        operation(
            "get",
            "/api/v1/queue",
            "Runs that wait for their turn in a stage, or have it, and machines that wait to be switched on",
            Nothing,
            Json(of::<QueueView>),
        ),
        operation("get", "/api/v1/tokens", "Operator tokens", Nothing, Json(list::<TokenView>)),
        operation(
            "post",
            "/api/v1/tokens",
            "Makes a token",
            Takes::Json(of::<TokenCreate>),
            Created(of::<TokenCreated>),
        ),
        operation("delete", "/api/v1/tokens/{id}", "Revokes a token", Nothing, Gives::Nothing),
        operation("get", "/api/v1/users", "People who may log in", Nothing, Json(list::<UserView>)),
        operation(
            "post",
            "/api/v1/users",
            "Adds a person",
            Takes::Json(of::<UserCreate>),
            Created(of::<UserView>),
        ),
        operation(
            "patch",
            "/api/v1/users/{name}",
            "Changes a person",
            Takes::Json(of::<UserEdit>),
            Json(of::<UserView>),
        ),
        operation("get", "/api/v1/netboot", "The netboot server", Nothing, Json(of::<NetbootView>)),
        operation(
            "post",
            "/api/v1/janitor",
            "Removes old files of runs",
            Takes::Json(of::<SweepOrder>),
            Json(of::<SweepView>),
        ),
        operation(
            "get",
            "/api/v1/notifications",
            "Receivers and what they are told",
            Nothing,
            Json(of::<NotificationsView>),
        )
        .asking("delivered", "boolean", "Only those that were delivered")
        .asking("before", "integer", "Only older ones than this; of those that are pending or failed, and all that were delivered, unless `delivered` is said")
        .asking("limit", "integer", "So many: 200, at most 1000")
        .with(&[Paged]),
        operation(
            "post",
            again,
            "Tries again what was given up",
            Takes::Json(retry),
            Json(of::<RetriedView>),
        ),
        operation("post", test, "Sends a receiver a test", Nothing, Gives::Nothing),
    ]
}

fn agents() -> Vec<Operation> {
    let acknowledged = || Json(of::<Acknowledgement>);
    let post = |path, about, takes: Schemed, gives| operation("post", path, about, Takes::Json(takes), gives);
    vec![
        post("/agent/v1/claim", "Claims a run", of::<ClaimRequest>, Json(of::<ClaimResponse>)).with(&[Open]),
        post("/agent/v1/enrol", "Asks to be taken in", of::<EnrolRequest>, Json(of::<EnrolAnswer>))
            .with(&[Open]),
        post("/agent/v1/runs/{run}/batches", "Records", of::<Batch>, acknowledged()),
        post("/agent/v1/runs/{run}/heartbeat", "A sign of life", of::<Heartbeat>, acknowledged()),
        post("/agent/v1/runs/{run}/crash", "The agent died", of::<AgentCrash>, acknowledged()),
        post("/agent/v1/runs/{run}/hold", "How to get in", of::<HoldReport>, Json(object)),
        operation("post", "/agent/v1/runs/{run}/plan", "The plan anew", Nothing, Json(of::<PlanAnswer>)),
        post(
            "/agent/v1/runs/{run}/network-test",
            "Asks for an iperf3 server",
            of::<NetworkTestRequest>,
            Json(of::<NetworkTestAnswer>),
        ),
        operation(
            "put",
            "/agent/v1/runs/{run}/artifacts/{kind}/{name}",
            "A file",
            Bytes,
            Json(of::<ArtifactReceipt>),
        )
        .with(&[Digest]),
        post(
            "/agent/v1/host/heartbeat",
            "An agent in host mode is there",
            of::<HostHeartbeat>,
            Json(of::<HostDirective>),
        ),
        operation(
            "put",
            "/agent/v1/host/inventory",
            "What the machine is made of",
            Takes::Json(of::<HostInventory>),
            Json(object),
        ),
    ]
}

fn boot() -> Vec<Operation> {
    let get = |path, about, kind| operation("get", path, about, Nothing, Other(kind)).with(&[Open]);
    let mac = |operation: Operation| operation.asking("mac", "string", "The card it boots from");
    vec![
        mac(get("/boot/ipxe", "Boot script of iPXE", "text/plain")),
        mac(get("/boot/grub", "Boot script of GRUB", "text/plain")),
        mac(get("/boot/files/{file}", "Kernel, initramfs, disc, memtest86+", "application/octet-stream")),
        get("/boot/netboot/{file}", "Boot loaders", "application/octet-stream"),
        get("/grub/grub.cfg", "Configuration of GRUB", "text/plain"),
    ]
}
