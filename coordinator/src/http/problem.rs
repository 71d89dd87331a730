//! Every error answer of every endpoint: RFC 9457 problem details. The one place that knows HTTP statuses of failures.

use http::{HeaderValue, StatusCode, header};
use vetting_protocol::problem::Problem;
use warp::reject::Rejection;
use warp::reply::{Reply, Response};

use crate::error_chain;
use crate::run::error::RunError;
use crate::store::StoreError;

/// The kinds of problem there are: the stable word, the status and the title of each.
macro_rules! problem_kinds {
    ($($(#[$meta:meta])* $variant:ident = $status:ident, $word:literal, $title:literal;)+) => {
        /// A kind of problem.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ProblemKind {
            $($(#[$meta])* $variant,)+
        }

        impl ProblemKind {
            /// The stable word after `about:blank#`.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The status of the answer.
            pub fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)+ }
            }

            /// The same for every occurrence.
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)+ }
            }
        }
    };
}

problem_kinds! {
    /// Body, path or query is not what it should be.
    Malformed = BAD_REQUEST, "malformed", "The request is malformed";
    /// No `Authorization: Bearer …`.
    TokenMissing = UNAUTHORIZED, "token-missing", "A bearer token is needed";
    /// A token nobody holds, or a revoked one.
    TokenUnknown = UNAUTHORIZED, "token-unknown", "The bearer token is not valid";
    /// A viewer wants to change something.
    RoleMissing = FORBIDDEN, "role-missing", "The role does not allow it";
    /// A form that was not made for the session it is sent in.
    ForeignForm = FORBIDDEN, "foreign-form", "The form cannot be trusted";
    /// A log-in with a wrong name or password.
    LoginRefused = UNAUTHORIZED, "login-refused", "That log-in is not good";
    /// A run's token used for another run.
    OtherRun = FORBIDDEN, "other-run", "The token belongs to another run";
    /// A claim secret that was never given out, or was replaced by a newer one.
    ClaimUnknown = FORBIDDEN, "claim-unknown", "The claim secret is not valid";
    /// A claim secret past its time.
    ClaimExpired = FORBIDDEN, "claim-expired", "The claim secret has expired";
    /// A claim secret used twice.
    ClaimUsed = CONFLICT, "claim-used", "The claim secret was used already";
    /// Another machine than the one the run was ordered for.
    OtherMachine = CONFLICT, "other-machine", "The run was ordered for another machine";
    /// More than is taken at a time.
    TooMany = TOO_MANY_REQUESTS, "too-many", "That is more than is taken at a time";
    /// The agent speaks another protocol.
    ProtocolVersion = CONFLICT, "protocol-version", "The agent speaks another protocol version";
    /// No such path, host, run, artifact.
    NotFound = NOT_FOUND, "not-found", "There is no such thing";
    /// A file that the janitor removed.
    Gone = GONE, "gone", "The file was removed by its age";
    /// The path knows other methods.
    MethodNotAllowed = METHOD_NOT_ALLOWED, "method-not-allowed", "The method is not allowed here";
    /// Something that is there forbids it: a name, a MAC address, an active run.
    Taken = CONFLICT, "taken", "Something that exists already is in the way";
    /// The run's state does not allow it.
    NotNow = CONFLICT, "not-now", "The run's state does not allow it";
    /// An edit of an older version.
    OtherVersion = PRECONDITION_FAILED, "other-version", "It was changed meanwhile";
    /// `If-Match` where nothing can be matched.
    NoVersions = BAD_REQUEST, "no-versions", "What the request changes has no versions";
    /// A body of another kind.
    MediaType = UNSUPPORTED_MEDIA_TYPE, "media-type", "The body is of a kind that is not taken";
    /// A batch is missing before this one.
    SequenceGap = CONFLICT, "sequence-gap", "A batch is missing";
    /// A record of a stage that is over.
    StageFinished = CONFLICT, "stage-finished", "The stage is over";
    /// The machine was restarted without a word.
    OtherBoot = CONFLICT, "other-boot", "The record comes from another boot";
    /// A record names a stage or sub-step that the plan has not.
    UnknownStage = UNPROCESSABLE_ENTITY, "unknown-stage", "The plan has no such stage";
    /// A value that cannot be taken.
    Invalid = UNPROCESSABLE_ENTITY, "invalid", "A value is not valid";
    /// The expected spec is wrong.
    SpecInvalid = UNPROCESSABLE_ENTITY, "spec-invalid", "The expected spec is not valid";
    /// What arrived is not what was announced.
    DigestMismatch = UNPROCESSABLE_ENTITY, "digest-mismatch", "The body does not have the announced digest";
    /// A machine's BMC did not do it.
    Power = BAD_GATEWAY, "power", "The machine's power could not be controlled";
    /// A receiver of notifications did not take it.
    Receiver = BAD_GATEWAY, "receiver", "The receiver did not take the message";
    /// The coordinator cannot do its work now.
    NotReady = SERVICE_UNAVAILABLE, "not-ready", "The coordinator is not ready";
    /// Not from that address.
    AddressRefused = FORBIDDEN, "address-refused", "This is not told to that address";
    /// Over a limit.
    TooLarge = PAYLOAD_TOO_LARGE, "too-large", "The body is too large";
    /// Beyond the file's end.
    RangeNotSatisfiable = RANGE_NOT_SATISFIABLE, "range-not-satisfiable", "The range is not satisfiable";
    /// The database is locked, the disk is full.
    StorageUnavailable = SERVICE_UNAVAILABLE, "storage-unavailable", "Nothing can be stored now; nothing was";
    /// The coordinator is at fault.
    Internal = INTERNAL_SERVER_ERROR, "internal", "The coordinator failed";
}

/// An error answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct ApiError {
    /// What kind.
    pub kind: ProblemKind,
    /// This occurrence, with what to do next.
    pub detail: String,
}

impl ApiError {
    /// An error with its detail.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }

    /// Something that is not there.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(ProblemKind::NotFound, detail)
    }

    /// The coordinator's own failure: the chain goes to the log, not to the client.
    pub fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = %error_chain(error), "a request failed");
        Self::new(ProblemKind::Internal, "the coordinator's log has the cause")
    }

    /// The answer.
    pub fn into_response(self) -> Response {
        let status = self.kind.status();
        let problem = Problem {
            kind: format!("about:blank#{}", self.kind.word()),
            title: self.kind.title().to_owned(),
            status: status.as_u16(),
            detail: self.detail,
        };
        let mut response = warp::reply::with_status(warp::reply::json(&problem), status).into_response();
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        if error.is_temporary() {
            let detail = format!("{}; try again", error_chain(&error));
            tracing::warn!("{detail}");
            return Self::new(ProblemKind::StorageUnavailable, detail);
        }
        match &error {
            StoreError::NotFound { .. } => Self::not_found(error.to_string()),
            StoreError::Conflict { .. } => Self::new(ProblemKind::Taken, error.to_string()),
            StoreError::Time(_) | StoreError::OutOfRange { .. } => {
                Self::new(ProblemKind::Invalid, error.to_string())
            }
            _ => Self::internal(&error),
        }
    }
}

impl From<RunError> for ApiError {
    fn from(error: RunError) -> Self {
        let kind = match error {
            RunError::Store(error) => return Self::from(error),
            RunError::File(_) | RunError::Io { .. } => {
                let detail = format!("{}; try again", error_chain(&error));
                tracing::error!("{detail}");
                return Self::new(ProblemKind::StorageUnavailable, detail);
            }
            RunError::Random(_) | RunError::Signing(_) | RunError::Corrupt { .. } | RunError::Task(_) => {
                return Self::internal(&error);
            }
            RunError::WipeNonDestructive
            | RunError::EraseWithoutWipe
            | RunError::WipeInstalledSystem
            | RunError::NoHold
            | RunError::Invalid { .. } => ProblemKind::Invalid,
            RunError::Power { .. } => ProblemKind::Power,
            RunError::Removed { .. } => ProblemKind::Gone,
            RunError::NotNow { .. } => ProblemKind::NotNow,
            RunError::ProtocolVersion { .. } => ProblemKind::ProtocolVersion,
            RunError::ClaimUnknown { .. } => ProblemKind::ClaimUnknown,
            RunError::ClaimExpired { .. } => ProblemKind::ClaimExpired,
            RunError::ClaimUsed { .. } => ProblemKind::ClaimUsed,
            RunError::OtherMachine { .. } => ProblemKind::OtherMachine,
            RunError::TooMany { .. } => ProblemKind::TooMany,
            RunError::TokenUnknown => ProblemKind::TokenUnknown,
            RunError::OtherRun { .. } => ProblemKind::OtherRun,
            RunError::SequenceGap { .. } => ProblemKind::SequenceGap,
            RunError::OtherBoot { .. } => ProblemKind::OtherBoot,
            RunError::StageFinished { .. } => ProblemKind::StageFinished,
            RunError::UnknownStage { .. } | RunError::UnknownSubStep { .. } => ProblemKind::UnknownStage,
            RunError::TooManyRecords { .. } => ProblemKind::TooLarge,
            RunError::DigestMismatch { .. } => ProblemKind::DigestMismatch,
        };
        Self::new(kind, error.to_string())
    }
}

/// A handler's outcome as a response.
pub fn answer<R: Reply>(outcome: Result<R, ApiError>) -> Response {
    match outcome {
        Ok(reply) => reply.into_response(),
        Err(error) => error.into_response(),
    }
}

/// What warp itself refuses, in the same form.
pub fn recover(rejection: &Rejection) -> Response {
    // path and method fit where the query was looked at, whatever the other routes say
    let error = if rejection.find::<warp::reject::InvalidQuery>().is_some() {
        ApiError::new(ProblemKind::Malformed, "the query string cannot be read")
    } else if rejection.find::<warp::reject::MethodNotAllowed>().is_some() {
        ApiError::new(ProblemKind::MethodNotAllowed, "this path exists, but not with this method")
    } else if rejection.is_not_found() {
        ApiError::not_found("no such path; the API is listed in docs/api.md")
    } else if rejection.find::<warp::reject::InvalidHeader>().is_some()
        || rejection.find::<warp::reject::MissingHeader>().is_some()
    {
        ApiError::new(ProblemKind::Malformed, "a header is missing or cannot be read")
    } else {
        tracing::error!(?rejection, "a rejection nobody expected");
        ApiError::new(ProblemKind::Internal, "the coordinator's log has the cause")
    };
    error.into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_work_later_is_503_and_says_when_to_come_back() {
        for error in [StoreError::TransactionLost, StoreError::Closed] {
            let response = ApiError::from(RunError::Store(error)).into_response();
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(response.headers()[header::RETRY_AFTER], "5");
        }
    }

    #[test]
    fn the_coordinators_own_failure_keeps_its_cause_to_itself() {
        let error = ApiError::from(StoreError::UnknownText {
            table: "runs",
            column: "state",
            found: "garbage".to_owned(),
        });
        assert_eq!((error.kind, error.detail.contains("garbage")), (ProblemKind::Internal, false));
    }
}
