//! Asks an issuer for its keys: its discovery document says where they are (OpenID Connect Discovery,
//! section 4).

use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use hyper::{Method, StatusCode, Uri};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;

use crate::http_client::{Addresses, HttpClient};

/// Time for an answer, with the connection.
const TIME: Duration = Duration::from_secs(5);
/// The longest answer. Those of large providers have 20 KiB.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// The keys that the issuer publishes. They may be of any kind.
pub async fn fetch_keys(issuer: &str) -> anyhow::Result<Vec<Value>> {
    #[derive(Deserialize)]
    struct Discovered {
        issuer: String,
        jwks_uri: String,
    }
    #[derive(Deserialize)]
    struct Published {
        keys: Vec<Value>,
    }
    let url = format!(
        "{}/.well-known/openid-configuration",
        issuer.trim_end_matches('/')
    );
    let url: Uri = url.parse()?;
    let discovered: Discovered = get(&url, Addresses::Any).await?;
    ensure!(
        discovered.issuer == issuer,
        "{url} is of the issuer {:?}",
        discovered.issuer
    );
    let keys: Uri = discovered.jwks_uri.parse().context("jwks_uri")?;
    // The operator has chosen the issuer's own address. An issuer may not choose one of this network.
    let is_own = keys.scheme() == url.scheme() && keys.authority() == url.authority();
    let addresses = match is_own {
        true => Addresses::Any,
        false => {
            ensure!(keys.scheme_str() == Some("https"), "{keys} is not https");
            Addresses::Public
        }
    };
    let published: Published = get(&keys, addresses).await?;
    Ok(published.keys)
}

async fn get<T: DeserializeOwned>(url: &Uri, addresses: Addresses) -> anyhow::Result<T> {
    let asking = async {
        let mut client = HttpClient::connect(url, addresses, TIME).await?;
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let answer = client.ask(Method::GET, path, None, "", ANSWER_BYTES_MAX);
        let (status, body) = answer.await?;
        // Redirects among them: they are not followed.
        ensure!(status == StatusCode::OK, "it answers {status}");
        serde_json::from_slice(&body).context("it answers something else than was asked for")
    };
    let answer = timeout(TIME, asking).await;
    let answer = answer.unwrap_or_else(|_| Err(anyhow!("no answer in {TIME:?}")));
    answer.with_context(|| url.to_string())
}
