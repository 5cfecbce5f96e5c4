//! The page to chat in: files of `host/web/dist`, built into the program.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::StatusCode;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use once_cell::sync::Lazy;
use sha2::{Digest, Sha256};

use crate::http::about::about;
use crate::http::answers::{Answer, HttpError, whole, with};
use crate::http::call::Call;
use crate::http::cors::RESOURCE_POLICY;

/// Bytes of the hash that names the content of a file; `host/web/app/build.mjs` knows it too.
const HASH_BYTES: usize = 8;

/// What the page may load and do: nothing but this server's files and answers. `trusted-types`:
/// only the policy with which the page names its service worker may make script addresses.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' blob:; connect-src 'self'; manifest-src 'self'; worker-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types sw";

/// Headers of every file.
const HEADERS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (RESOURCE_POLICY, "same-origin"),
];

/// A browser asks again each time, and is told that nothing has changed.
const REVALIDATED: &str = "no-cache";
/// The address has the hash of the content, so that it is never another content.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// A file of the page.
pub struct PageFile {
    pub path: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
    /// The beginning of the SHA-256 of the bytes, in hexadecimal digits.
    hash: String,
    /// Absent if the format is a compressed one.
    gzip: Option<Bytes>,
}

macro_rules! file {
    ($path:literal, $name:literal, $content_type:literal) => {
        PageFile::new(
            $path,
            $content_type,
            include_bytes!(concat!("../../web/dist/", $name)),
        )
    };
}

/// Compressed at the first request for one of them: a server that nobody opens in a browser, such
/// as that of a test, does not do it.
// A row is a line.
#[rustfmt::skip]
pub static FILES: Lazy<[PageFile; 11]> = Lazy::new(|| {
    [
        file!("/", "index.html", "text/html; charset=utf-8"),
        file!("/app.js", "app.js", "text/javascript; charset=utf-8"),
        file!("/chunk.js", "chunk.js", "text/javascript; charset=utf-8"),
        file!("/more.js", "more.js", "text/javascript; charset=utf-8"),
        file!("/app.css", "app.css", "text/css; charset=utf-8"),
        file!("/sw.js", "sw.js", "text/javascript; charset=utf-8"),
        file!("/app.webmanifest", "app.webmanifest", "application/manifest+json"),
        file!("/licences.txt", "licences.txt", "text/plain; charset=utf-8"),
        file!("/icon.svg", "icon.svg", "image/svg+xml"),
        file!("/icon-192.png", "icon-192.png", "image/png"),
        file!("/icon-512.png", "icon-512.png", "image/png"),
    ]
});

/// The page of a server with `REGISTRATION=closed`, which offers only to log in.
static WITHOUT_REGISTRATION: Lazy<PageFile> = Lazy::new(|| {
    let page = &FILES[0];
    let html = str::from_utf8(page.bytes).expect("the build writes UTF-8");
    let html = html.replacen("<html ", "<html data-registration=\"closed\" ", 1);
    PageFile::new(page.path, page.content_type, html.leak().as_bytes())
});

impl PageFile {
    fn new(path: &'static str, content_type: &'static str, bytes: &'static [u8]) -> Self {
        let digest = Sha256::digest(bytes);
        let digits = digest[..HASH_BYTES]
            .iter()
            .map(|byte| format!("{byte:02x}"));
        PageFile {
            path,
            content_type,
            bytes,
            hash: digits.collect(),
            gzip: (content_type != "image/png").then(|| gzip(bytes)),
        }
    }

    fn answer(&self, headers: &HeaderMap, query: Option<&str>) -> Result<Answer, HttpError> {
        let gzip = self.gzip.as_ref().filter(|_| accepts_gzip(headers));
        let tag = match gzip {
            Some(_) => format!("\"{}-gzip\"", self.hash),
            None => format!("\"{}\"", self.hash),
        };
        let is_named = query.and_then(|query| query.strip_prefix("v=")) == Some(&*self.hash);
        let mut answer = match (is_known(headers, &tag), gzip) {
            (true, _) => whole(StatusCode::NOT_MODIFIED, self.content_type, ""),
            (false, Some(gzip)) => {
                let answer = whole(StatusCode::OK, self.content_type, gzip.clone());
                let gzip = HeaderValue::from_static("gzip");
                with(answer, header::CONTENT_ENCODING, gzip)
            }
            (false, None) => whole(StatusCode::OK, self.content_type, self.bytes),
        };
        for (name, value) in HEADERS {
            answer = with(answer, name, HeaderValue::from_static(value));
        }
        let caching = if is_named { IMMUTABLE } else { REVALIDATED };
        let caching = HeaderValue::from_static(caching);
        answer = with(answer, header::CACHE_CONTROL, caching);
        let encoding = HeaderValue::from_static("Accept-Encoding");
        answer = with(answer, header::VARY, encoding);
        let tag = HeaderValue::try_from(tag).expect("hexadecimal digits in quotes");
        Ok(with(answer, header::ETAG, tag))
    }
}

/// Answers with the file of the request's path. Without the page, `/` says what this is, and its
/// other files do not exist.
pub async fn file(call: Call) -> Result<Answer, HttpError> {
    let path = call.request.uri().path();
    if !call.services.has_page {
        return match path {
            "/" => about(call).await,
            _ => Err(HttpError::NOT_FOUND),
        };
    }
    let file = FILES.iter().find(|file| file.path == path);
    let mut file = file.ok_or(HttpError::NOT_FOUND)?;
    if path == "/" && !call.services.has_registration {
        file = &WITHOUT_REGISTRATION;
    }
    file.answer(call.request.headers(), call.request.uri().query())
}

fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    written.expect("a list of bytes takes all of them").into()
}

/// Whether the client takes gzip (RFC 9110, section 12.5.3).
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let codings = texts(headers, header::ACCEPT_ENCODING);
    codings.into_iter().any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| {
            name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip")
        });
        let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
        is_gzip && quality != Some(0.0)
    })
}

/// Whether the client has the content of this tag already (RFC 9110, section 13.1.2).
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let known = texts(headers, header::IF_NONE_MATCH);
    let mut known = known.into_iter();
    known.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

/// The items of a header that is a list.
fn texts(headers: &HeaderMap, name: HeaderName) -> Vec<&str> {
    let values = headers.get_all(name).into_iter();
    let values = values.filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(',').map(str::trim))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::path::Path;

    use flate2::read::GzDecoder;

    use super::*;
    use crate::http::routes::ROUTES;

    fn folder() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/web/dist"))
    }

    #[test]
    fn every_built_file_is_served() {
        let mut built: Vec<_> = folder()
            .read_dir()
            .expect("host/web/dist")
            .map(|entry| entry.expect("an entry").file_name())
            .map(|name| format!("/{}", name.to_str().expect("UTF-8")))
            .map(|path| path.replace("/index.html", "/"))
            .collect();
        built.sort();
        let mut served: Vec<_> = FILES.iter().map(|file| file.path).collect();
        served.sort_unstable();
        assert_eq!(served, built);
        for path in served {
            assert!(ROUTES.find(path).is_some(), "{path} has no row");
        }
    }

    #[test]
    fn the_page_names_its_files_by_their_hashes() {
        let html = str::from_utf8(FILES[0].bytes).expect("UTF-8");
        for path in ["/app.js", "/chunk.js", "/app.css"] {
            let file = FILES.iter().find(|file| file.path == path);
            let name = format!("{path}?v={}", file.expect("a file").hash);
            assert!(html.contains(&name), "index.html does not have {name}");
        }
    }

    #[test]
    fn the_first_load_is_small() {
        // What index.html names, which is what the conversations need. A phone takes the picture
        // only when somebody installs the page.
        const FIRST_LOAD_BYTES_MAX: usize = 60_000;
        let size = |file: &PageFile| file.gzip.as_ref().map_or(file.bytes.len(), Bytes::len);
        let html = str::from_utf8(FILES[0].bytes).expect("UTF-8");
        let is_named = |file: &&PageFile| html.contains(&format!("\"{}", file.path));
        let first = FILES.iter().filter(is_named);
        let first = first.filter(|file| file.content_type != "image/png");
        let sizes: Vec<_> = first.map(|file| (file.path, size(file))).collect();
        let all: usize = sizes.iter().map(|(_, size)| size).sum();
        assert!(all <= FIRST_LOAD_BYTES_MAX, "{all} bytes: {sizes:?}");
    }

    #[test]
    fn what_is_compressed_is_the_file() {
        for file in FILES.iter() {
            let Some(gzip) = &file.gzip else { continue };
            let mut bytes = Vec::new();
            let read = GzDecoder::new(&**gzip).read_to_end(&mut bytes);
            read.expect("gzip");
            assert!(bytes == file.bytes, "{}", file.path);
        }
    }

    #[test]
    fn gzip_is_for_clients_that_take_it() {
        for (value, expected) in [
            ("", false),
            ("identity", false),
            ("gzip", true),
            ("GZIP", true),
            ("deflate, gzip;q=1.0, *;q=0.5", true),
            ("br, x-gzip", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0, br", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            assert_eq!(accepts_gzip(&headers), expected, "{value:?}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
