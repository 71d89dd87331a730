//! Request bodies, never longer than their limit.

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use http::{HeaderMap, header};
use serde::de::DeserializeOwned;

use super::problem::{ApiError, ProblemKind};
use crate::run::upload::Upload;

/// A body that is too long is read on to this many times its limit before the answer, so that a client that is
/// still sending gets to read the answer instead of a broken connection.
const DRAIN_FACTOR: u64 = 2;

/// What takes the pieces of a body.
pub trait Sink {
    /// Takes one piece.
    fn take(&mut self, chunk: &[u8]) -> impl Future<Output = Result<(), ApiError>> + Send;
}

impl Sink for BytesMut {
    async fn take(&mut self, chunk: &[u8]) -> Result<(), ApiError> {
        self.extend_from_slice(chunk);
        Ok(())
    }
}

impl Sink for Upload {
    async fn take(&mut self, chunk: &[u8]) -> Result<(), ApiError> {
        Ok(self.write(chunk).await?)
    }
}

/// Reads a whole body of at most `limit` bytes.
pub async fn read<S, B>(stream: S, limit: u64) -> Result<Bytes, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let mut body = BytesMut::new();
    for_each_chunk(stream, limit, &mut body).await?;
    Ok(body.freeze())
}

/// Gives each piece of a body of at most `limit` bytes to `sink`; returns the body's length.
pub async fn for_each_chunk<S, B>(stream: S, limit: u64, sink: &mut impl Sink) -> Result<u64, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let mut stream = std::pin::pin!(stream);
    let mut length = 0_u64;
    while let Some(piece) = stream.next().await {
        let mut piece = piece
            .map_err(|error| ApiError::new(ProblemKind::Malformed, format!("the body broke off: {error}")))?;
        while piece.has_remaining() {
            let taken = piece.chunk().len();
            length += taken as u64;
            if length <= limit {
                sink.take(piece.chunk()).await?;
            } else if length > limit * DRAIN_FACTOR {
                return Err(too_large(limit));
            }
            piece.advance(taken);
        }
    }
    if length > limit { Err(too_large(limit)) } else { Ok(length) }
}

/// Refuses a body that says itself that it is too long, before any of it is read. For bodies so large that reading
/// them to the end would be a burden; the client may see a broken connection instead of this answer.
pub fn check_announced_length(headers: &HeaderMap, limit: u64) -> Result<(), ApiError> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    match announced.and_then(|text| text.parse::<u64>().ok()) {
        Some(length) if length > limit => Err(too_large(limit)),
        Some(_) | None => Ok(()),
    }
}

/// Refuses a body that says itself that it is not JSON. One that says nothing is read as JSON.
pub fn check_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let kind = kind.to_str().unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "application/json" || essence.ends_with("+json") {
        return Ok(());
    }
    let detail = format!("`{kind}` is not taken here; send JSON with `Content-Type: application/json`");
    Err(ApiError::new(ProblemKind::MediaType, detail))
}

fn too_large(limit: u64) -> ApiError {
    ApiError::new(ProblemKind::TooLarge, format!("at most {limit} bytes are taken here"))
}

/// Reads a JSON body of at most `limit` bytes.
pub async fn json<S, B, T>(stream: S, limit: u64) -> Result<T, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
    T: DeserializeOwned,
{
    let bytes = read(stream, limit).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        ApiError::new(ProblemKind::Malformed, format!("the body is not what it should be: {error}"))
    })
}
