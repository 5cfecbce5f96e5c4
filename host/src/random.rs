//! Random bytes from the system.

use handler::Error;

pub fn random_bytes<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        tracing::error!(%error, "the system gives no random bytes");
        Error::Internal("no random bytes".into())
    })?;
    Ok(bytes)
}
