//! Webhooks: a POST of JSON with an HMAC-SHA256 over time and body, as Stripe and GitHub sign theirs.
//!
//! `Vetting-Signature: t=SECONDS,v1=HEX`, where HEX is the HMAC of `SECONDS.BODY`. docs/configuration.md says how to
//! verify it.

use ring::hmac;
use serde_json::json;
use vetting_protocol::ids::Sha256Hex;

use super::delivery::{DeliveryError, Means};
use super::message::Message;
use super::receiver::{Address, Webhook, http_url};

/// The form of the body.
const VERSION: u32 = 1;

/// The value of the header.
fn signature(secret: &[u8], seconds: i64, body: &[u8]) -> String {
    let mut signed = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
    signed.update(seconds.to_string().as_bytes());
    signed.update(b".");
    signed.update(body);
    let mut digest = [0; 32];
    digest.copy_from_slice(signed.sign().as_ref());
    format!("t={seconds},v1={}", Sha256Hex::from_bytes(digest))
}

pub(super) async fn send(
    means: &Means,
    webhook: &Webhook,
    id: i64,
    message: &Message,
) -> Result<(), DeliveryError> {
    let url = match &webhook.url {
        Address::Url(url) => url.clone(),
        Address::Secret(name) => {
            let secret = means.secrets.get(name)?;
            http_url(secret.expose()).map_err(|why| DeliveryError::NoUrl { name: name.clone(), why })?
        }
    };
    let body = serde_json::to_vec(&json!({"version": VERSION, "delivery": id, "notification": message}))?;
    let mut request = means
        .http
        .post(url)
        .header("Content-Type", "application/json")
        .header("Vetting-Delivery", id.to_string());
    if let Some(name) = &webhook.secret {
        let secret = means.secrets.get(name)?;
        let seconds = means.clock.now_ms() / 1_000;
        request = request.header("Vetting-Signature", signature(secret.expose().as_bytes(), seconds, &body));
    }
    means.send(request.body(body)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_openssl() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac s3cret
        assert_eq!(
            signature(b"s3cret", 1_700_000_000, br#"{"a":1}"#),
            "t=1700000000,v1=1698a50bc74d1ff1db85c4e0a5297c2ad9fdba245d5737cdb789e4cc6e098940"
        );
    }
}
