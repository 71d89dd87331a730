//! Files of the image and of runs, served with HEAD, ETag and ranges (RFC 9110 sections 13 and 14).
//! Refuses to choose a path: callers name one of their own.

use std::io::SeekFrom;
use std::path::Path;
use std::time::UNIX_EPOCH;

use bytes::BytesMut;
use futures_util::Stream;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use warp::reply::{Reply, Response};

use super::problem::{ApiError, ProblemKind};

const CHUNK_BYTES: usize = 256 * 1024;

/// Called when the last byte of a file has been handed to the connection.
pub type OnComplete = Box<dyn FnOnce() + Send + Sync>;

/// What of a file was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Whole,
    /// First and last byte, both inclusive.
    Part(u64, u64),
    Nothing,
}

/// Serves the file at `path`.
///
/// # Errors
/// 404 when there is none, 416 for a range beyond its end.
pub async fn serve(
    path: &Path,
    content_type: &'static str,
    method: &Method,
    headers: &HeaderMap,
    on_complete: Option<OnComplete>,
) -> Result<Response, ApiError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut file = File::open(path).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => ApiError::not_found(format!("{name} is not there")),
        _ => ApiError::internal(&error),
    })?;
    let metadata = file.metadata().await.map_err(|error| ApiError::internal(&error))?;
    if !metadata.is_file() {
        return Err(ApiError::not_found(format!("{name} is not a file")));
    }
    let size = metadata.len();
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let etag = format!("\"{size:x}-{:x}\"", modified.unwrap_or_default().as_nanos());
    if matches_etag(headers.get(header::IF_NONE_MATCH), &etag) {
        return Ok(with_headers(StatusCode::NOT_MODIFIED.into_response(), &[(header::ETAG, etag)]));
    }
    let range = match headers.get(header::IF_RANGE) {
        Some(condition) if condition.as_bytes() != etag.as_bytes() => None,
        Some(_) | None => headers.get(header::RANGE),
    };
    let (first, length, status) = match wanted(range, size) {
        Wanted::Whole => (0, size, StatusCode::OK),
        Wanted::Part(first, last) => (first, last - first + 1, StatusCode::PARTIAL_CONTENT),
        Wanted::Nothing => {
            let error = ApiError::new(ProblemKind::RangeNotSatisfiable, format!("{name} has {size} bytes"));
            let range = format!("bytes */{size}");
            return Ok(with_headers(error.into_response(), &[(header::CONTENT_RANGE, range)]));
        }
    };
    let mut entries = vec![
        (header::ETAG, etag),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::CONTENT_TYPE, content_type.to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
    ];
    if status == StatusCode::PARTIAL_CONTENT {
        entries.push((header::CONTENT_RANGE, format!("bytes {first}-{}/{size}", first + length - 1)));
    }
    let response = if method == Method::HEAD {
        status.into_response()
    } else {
        file.seek(SeekFrom::Start(first)).await.map_err(|error| ApiError::internal(&error))?;
        let on_complete = on_complete.filter(|_| first + length == size);
        warp::reply::with_status(warp::reply::stream(chunks(file, length, on_complete)), status)
            .into_response()
    };
    Ok(with_headers(response, &entries))
}

fn with_headers(mut response: Response, entries: &[(header::HeaderName, String)]) -> Response {
    for (name, value) in entries {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name.clone(), value);
        }
    }
    response
}

fn matches_etag(header: Option<&HeaderValue>, etag: &str) -> bool {
    let Some(text) = header.and_then(|value| value.to_str().ok()) else { return false };
    text.split(',').any(|one| matches!(one.trim(), "*") || one.trim().trim_start_matches("W/") == etag)
}

/// Reads a `Range` header. What is not one range of bytes is ignored, as the RFC allows: the whole file is the answer.
fn wanted(header: Option<&HeaderValue>, size: u64) -> Wanted {
    let Some(range) =
        header.and_then(|value| value.to_str().ok()).and_then(|text| text.strip_prefix("bytes="))
    else {
        return Wanted::Whole;
    };
    let Some((first, last)) = range.trim().split_once('-') else { return Wanted::Whole };
    let number = |text: &str| {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            None
        } else {
            text.parse().ok()
        }
    };
    match (first, number(first), last, number(last)) {
        ("", _, _, Some(0)) => Wanted::Nothing,
        ("", _, _, Some(_)) if size == 0 => Wanted::Nothing,
        ("", _, _, Some(suffix)) => Wanted::Part(size.saturating_sub(suffix), size - 1),
        (_, Some(first), _, Some(last)) if first > last => Wanted::Whole,
        (_, Some(first), _, Some(_)) | (_, Some(first), "", None) if first >= size => Wanted::Nothing,
        (_, Some(first), _, Some(last)) => Wanted::Part(first, last.min(size - 1)),
        (_, Some(first), "", None) => Wanted::Part(first, size - 1),
        (_, _, _, None) | (_, None, _, Some(_)) => Wanted::Whole,
    }
}

struct Remaining {
    file: File,
    bytes: u64,
    on_complete: Option<OnComplete>,
}

fn chunks(
    file: File,
    bytes: u64,
    on_complete: Option<OnComplete>,
) -> impl Stream<Item = Result<BytesMut, std::io::Error>> + Send + Sync {
    futures_util::stream::try_unfold(Remaining { file, bytes, on_complete }, |mut remaining| async move {
        if remaining.bytes == 0 {
            return Ok(None);
        }
        let capacity = usize::try_from(remaining.bytes).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        let mut chunk = BytesMut::zeroed(capacity);
        let read = remaining.file.read(&mut chunk).await?;
        if read == 0 {
            return Err(std::io::Error::new(
                std::io::ErrorKind::UnexpectedEof,
                "the file was cut while it was sent",
            ));
        }
        chunk.truncate(read);
        remaining.bytes -= read as u64;
        // not at the next poll: nobody polls again once Content-Length is reached
        if remaining.bytes == 0
            && let Some(on_complete) = remaining.on_complete.take()
        {
            on_complete();
        }
        Ok(Some((chunk, remaining)))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str, size: u64) -> Wanted {
        wanted(Some(&HeaderValue::from_str(text).unwrap()), size)
    }

    #[test]
    fn ranges_read_as_rfc_9110_says() {
        assert_eq!(wanted(None, 10), Wanted::Whole);
        assert_eq!(of("bytes=0-3", 10), Wanted::Part(0, 3));
        assert_eq!(of("bytes=4-", 10), Wanted::Part(4, 9));
        assert_eq!(of("bytes=-3", 10), Wanted::Part(7, 9));
        assert_eq!(of("bytes=-30", 10), Wanted::Part(0, 9));
        assert_eq!(of("bytes=8-99", 10), Wanted::Part(8, 9));
        assert_eq!(of("bytes=10-", 10), Wanted::Nothing);
        assert_eq!(of("bytes=-0", 10), Wanted::Nothing);
        assert_eq!(of("bytes=0-", 0), Wanted::Nothing);
        for ignored in ["bytes=5-2", "bytes=0-1,3-4", "lines=1-2", "bytes=a-b", "bytes=", "bytes=-"] {
            assert_eq!(of(ignored, 10), Wanted::Whole, "{ignored}");
        }
    }

    proptest! {
        #[test]
        fn a_part_lies_within_the_file(text in "bytes=[0-9]{0,22}-[0-9]{0,22}", size: u64) {
            if let Wanted::Part(first, last) = of(&text, size) {
                prop_assert!(first <= last && last < size);
            }
        }
    }
}
