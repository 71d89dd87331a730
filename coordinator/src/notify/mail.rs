//! Mail by SMTP. The text is plain; the number of the message is its `Message-ID`, so that a second one is recognised.

use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};

use super::delivery::{DeliveryError, Means, read_ca};
use super::message::Message;
use super::receiver::{Smtp, SmtpTls};

fn parameters(means: &Means, smtp: &Smtp) -> Result<TlsParameters, DeliveryError> {
    let mut parameters = TlsParameters::builder(smtp.host.clone());
    if let Some(path) = &means.ca {
        let broken = |source: lettre::transport::smtp::Error| DeliveryError::Certificates {
            path: path.clone(),
            source: source.into(),
        };
        parameters = parameters.add_root_certificate(Certificate::from_pem(&read_ca(path)?).map_err(broken)?);
    }
    Ok(parameters.build_rustls()?)
}

fn mail(smtp: &Smtp, id: i64, message: &Message) -> Result<lettre::Message, DeliveryError> {
    let mut mail = lettre::Message::builder().from(smtp.from.clone()).subject(message.title.clone());
    for to in &smtp.to {
        mail = mail.to(to.clone());
    }
    let host = smtp.from.email.domain().to_owned();
    let mail = mail
        .message_id(Some(format!("<vetting-{id}-{}@{host}>", message.event_id.unwrap_or(0))))
        .header(ContentType::TEXT_PLAIN);
    Ok(mail.body(message.text.clone())?)
}

pub(super) async fn send(
    means: &Means,
    smtp: &Smtp,
    id: i64,
    message: &Message,
) -> Result<(), DeliveryError> {
    let tls = match smtp.tls {
        SmtpTls::Tls => Tls::Wrapper(parameters(means, smtp)?),
        SmtpTls::Starttls => Tls::Required(parameters(means, smtp)?),
        SmtpTls::None => Tls::None,
    };
    let mut transport =
        AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&smtp.host).port(smtp.port).tls(tls);
    if let Some((user, name)) = &smtp.login {
        let password = means.secrets.get(name)?;
        transport = transport.credentials(Credentials::new(user.clone(), password.expose().to_owned()));
    }
    transport.build().send(mail(smtp, id, message)?).await?;
    Ok(())
}
