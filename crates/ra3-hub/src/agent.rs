//! Who asks over HTTP, and whom it trusts. What is asked for is not known here.

use std::time::Duration;

use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use super::{HubError, HubSettings};

/// Time to open a connection.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time without a byte after which a connection counts as broken.
pub(super) const READ_TIMEOUT: Duration = Duration::from_mins(1);

/// What asks for files; an answer that is no success is not an error of its own.
///
/// # Errors
/// The authorities to trust cannot be read.
pub fn agent(settings: &HubSettings) -> Result<Agent, HubError> {
    let agent = Agent::config_builder()
        .tls_config(trust(settings)?)
        .http_status_as_error(false)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_per_read(Some(READ_TIMEOUT))
        // The storage that the Hub redirects to must not see the token.
        .redirect_auth_headers(ureq::config::RedirectAuthHeaders::SameHost)
        .build();
    Ok(agent.into())
}

/// The authorities to trust.
pub(super) fn trust(settings: &HubSettings) -> Result<TlsConfig, HubError> {
    let Some(path) = &settings.certificates else {
        return Ok(TlsConfig::default());
    };
    let wrong = |reason: String| HubError::Certificates(path.clone(), reason);
    let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let items = parse_pem(&text).filter_map(Result::ok);
    let certificates: Vec<Certificate<'static>> = items
        .filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(wrong("no certificate in it".to_owned()));
    }
    let roots = RootCerts::new_with_certs(&certificates);
    Ok(TlsConfig::builder().root_certs(roots).build())
}
