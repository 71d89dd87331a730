//! Boot endpoints on the plain listener: iPXE and GRUB scripts by MAC address, and the files of the live image.
//!
//! Firmware speaks no TLS that we could pin, so nothing secret is served here but the one-time claim secret,
//! which is short-lived and worth one run of one machine.

use std::net::IpAddr;

use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use vetting_protocol::ids::MacAddress;
use warp::reply::{Reply, Response};

use super::App;
use super::files;
use super::listener::Connection;
use super::problem::{ApiError, ProblemKind};
use crate::netboot::files::{BootFiles, FileError};
use crate::netboot::ipxe;
use crate::netboot::script::{Errand, INITRD, KERNEL, Language, LiveBoot};
use crate::run::boot::{BootAnswer, ScriptRequest};

/// Query of the boot endpoints.
#[derive(Debug, Deserialize)]
pub struct BootQuery {
    /// The card the machine boots from, in any common notation.
    mac: Option<String>,
}

fn text(status: StatusCode, body: String) -> Response {
    let length = HeaderValue::from(body.len());
    let mut response = warp::reply::with_status(body, status).into_response();
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // an answer to HEAD would not say it by itself
    response.headers_mut().insert(header::CONTENT_LENGTH, length);
    response
}

/// `GET` and `HEAD /boot/ipxe` and `/boot/grub`: one decision, written in the language of whoever asks.
pub async fn script(
    app: App,
    language: Language,
    connection: Connection,
    host: Option<String>,
    query: BootQuery,
) -> Result<Response, ApiError> {
    let reached = match language {
        Language::Ipxe => reached_as(host.as_deref(), connection),
        // GRUB leaves the port out of what it wrote
        Language::Grub => with_port(reached_as(host.as_deref(), connection), connection),
    };
    let base_url = format!("http://{reached}");
    let Some(mac) = query.mac else {
        return Ok(text(StatusCode::OK, language.ask_with_mac(&base_url)));
    };
    let mac: MacAddress = match mac.parse() {
        Ok(mac) => mac,
        Err(error) => return Ok(text(StatusCode::BAD_REQUEST, format!("{error}\n"))),
    };
    let asked = app
        .driver
        .boot_script(ScriptRequest {
            mac,
            remote: connection.remote,
            starts_memtest: language == Language::Ipxe,
        })
        .await;
    let answer = match asked.map_err(ApiError::from) {
        // a boot loader would give up at a 503 and start whatever is on the disk
        Err(error) if error.kind == ProblemKind::StorageUnavailable => {
            return Ok(text(StatusCode::OK, language.ask_again_later(&base_url, mac)));
        }
        asked => asked?,
    };
    let live_boot = |now_ms, errand, memtest_patterns| {
        language.live_boot(&LiveBoot {
            base_url: &base_url,
            coordinator: &app.public_endpoint(reached.host()),
            ca_fingerprint: app.ca_fingerprint,
            mac,
            errand,
            now_ms,
            memtest_patterns,
            extra_kernel_args: &app.extra_kernel_args,
        })
    };
    let script = match answer {
        BootAnswer::Unknown => language.unknown_machine(mac),
        BootAnswer::LocalDisk { host_name } => language.local_disk(&host_name),
        BootAnswer::Enrol { now_ms } => live_boot(now_ms, Errand::Enrol, None),
        BootAnswer::Memtest { host_name, run_id, port } => {
            let port = port.map(|port| port.to_string());
            ipxe::memtest_boot(&base_url, &host_name, mac, run_id, port.as_deref())
        }
        BootAnswer::Live { host_name, run_id, claim_secret, now_ms, memtest_patterns } => {
            let (host_name, claim_secret) = (host_name.as_str(), &claim_secret);
            live_boot(now_ms, Errand::Run { host_name, run_id, claim_secret }, memtest_patterns)
        }
    };
    Ok(text(StatusCode::OK, script))
}

/// The live image as a disc, for the virtual drives of BMCs.
const ISO: &str = "vetting.iso";

/// `GET` and `HEAD /boot/files/{name}`. Only the names of the live image, of its disc and of memtest86+ exist.
pub async fn file(
    app: App,
    name: String,
    method: Method,
    headers: HeaderMap,
    query: BootQuery,
) -> Result<Response, ApiError> {
    if let Some((_, memtest)) = ipxe::MEMTEST.into_iter().find(|(known, _)| *known == name) {
        return memtest_file(app, memtest, method, headers, query).await;
    }
    let name = [KERNEL, INITRD, ISO]
        .into_iter()
        .find(|known| *known == name)
        .ok_or_else(|| ApiError::not_found("the image has no such file"))?;
    let mac: Option<MacAddress> = query.mac.and_then(|mac| mac.parse().ok());
    let on_complete: Option<files::OnComplete> = match mac {
        // the initramfs is what a machine loads last
        Some(mac) if name == INITRD => {
            let driver = app.driver.clone();
            Some(Box::new(move || {
                tokio::spawn(async move { driver.image_served(mac).await });
            }))
        }
        Some(_) | None => None,
    };
    files::serve(&app.image_dir.join(name), "application/octet-stream", &method, &headers, on_complete).await
}

/// memtest86+. Once a machine has it whole, it is told to boot the live image next.
async fn memtest_file(
    app: App,
    name: &'static str,
    method: Method,
    headers: HeaderMap,
    query: BootQuery,
) -> Result<Response, ApiError> {
    let mac: Option<MacAddress> = query.mac.and_then(|mac| mac.parse().ok());
    let on_complete = mac.map(|mac| {
        let driver = app.driver.clone();
        Box::new(move || {
            tokio::spawn(async move { driver.memtest_served(mac).await });
        }) as files::OnComplete
    });
    let path = app.image_dir.join("netboot").join(name);
    files::serve(&path, "application/octet-stream", &method, &headers, on_complete).await
}

/// `GET` and `HEAD /boot/netboot/{name}`, and `/grub/grub.cfg`: the boot loaders that TFTP serves, for UEFI HTTP Boot.
pub async fn loader(
    app: App,
    connection: Connection,
    host: Option<String>,
    name: &str,
) -> Result<Response, ApiError> {
    // shim puts a slash too many between its own folder and what it loads next
    let name = name.trim_start_matches('/').to_owned();
    tracing::info!(remote = %connection.remote, name, "HTTP: a boot loader is asked for");
    let base_url = format!("http://{}", reached_as(host.as_deref(), connection));
    let loaders = BootFiles::of_image(&app.image_dir);
    let read = tokio::task::spawn_blocking(move || loaders.get(&name, &base_url));
    let content = read.await.map_err(|error| ApiError::internal(&error))?.map_err(|error| match error {
        FileError::Unknown | FileError::Unfit { .. } => {
            ApiError::not_found("the image has no such boot file")
        }
        FileError::Read { .. } => ApiError::internal(&error),
    })?;
    let length = content.len();
    let mut response = http::Response::new(content).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    Ok(response)
}

/// `HOST:PORT` as the machine wrote it, which is right also behind an address translation; our end of the connection
/// where it wrote nothing usable.
fn reached_as(host: Option<&str>, connection: Connection) -> Authority {
    let written = host.and_then(|host| host.parse::<Authority>().ok()).filter(|authority| {
        let harmless =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']');
        authority.as_str().bytes().all(harmless)
    });
    written.unwrap_or_else(|| {
        let ip = match connection.local.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or_else(|| format!("[{ip}]"), |ip| ip.to_string()),
        };
        // an address and a port always are an authority
        format!("{ip}:{}", connection.local.port())
            .parse()
            .unwrap_or_else(|_| Authority::from_static("localhost"))
    })
}

fn with_port(reached: Authority, connection: Connection) -> Authority {
    let port = connection.local.port();
    match reached.port() {
        Some(_) => reached,
        None => format!("{reached}:{port}").parse().unwrap_or(reached),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grub_is_sent_back_to_the_port_it_came_to() {
        let connection =
            Connection { remote: "10.0.0.9:1".parse().unwrap(), local: "10.0.0.1:8080".parse().unwrap() };
        let reached = |host: &str| with_port(reached_as(Some(host), connection), connection).to_string();
        assert_eq!(reached("10.0.2.2"), "10.0.2.2:8080");
        assert_eq!(reached("10.0.2.2:80"), "10.0.2.2:80");
    }

    #[test]
    fn a_host_header_that_could_change_the_script_is_not_used() {
        let connection =
            Connection { remote: "10.0.0.9:1".parse().unwrap(), local: "10.0.0.1:8080".parse().unwrap() };
        assert_eq!(reached_as(Some("10.0.2.2:8080"), connection).as_str(), "10.0.2.2:8080");
        assert_eq!(reached_as(Some("[fd00::1]:80"), connection).as_str(), "[fd00::1]:80");
        for unusable in [None, Some("a b"), Some("${evil}"), Some("user@host"), Some("h\n#!ipxe")] {
            assert_eq!(reached_as(unusable, connection).as_str(), "10.0.0.1:8080", "{unusable:?}");
        }
    }
}
