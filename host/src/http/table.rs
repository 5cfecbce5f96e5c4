//! The routes by path and method.

use hyper::Method;
use hyper::header::HeaderValue;
use matchit::Router;

use crate::http::call::Parameters;
use crate::http::route::{Effect, Route};

pub struct Table(Router<Path>);

/// The routes of one path.
pub struct Path {
    /// The path as it stands in the rows.
    pub pattern: &'static str,
    pub allow: HeaderValue,
    pub routes: Vec<Route>,
}

impl Table {
    /// Panics if two paths match the same requests, or if a route other than `GET` does not say
    /// that it changes state: a table is part of the program.
    pub fn new(routes: impl IntoIterator<Item = Route>) -> Self {
        let mut paths: Vec<Path> = Vec::new();
        for route in routes {
            let is_safe = route.method == Method::GET;
            let is_said = route.effect == Effect::ChangesState;
            assert!(is_safe || is_said, "{} changes state", route.path);
            match paths.iter_mut().find(|path| path.pattern == route.path) {
                Some(path) => path.routes.push(route),
                None => paths.push(Path {
                    pattern: route.path,
                    allow: HeaderValue::from_static(""),
                    routes: vec![route],
                }),
            }
        }
        let mut router = Router::new();
        for mut path in paths {
            let methods = path.routes.iter().flat_map(Route::methods);
            let methods = methods.chain([&Method::OPTIONS]).map(Method::as_str);
            let allow = methods.collect::<Vec<_>>().join(", ");
            path.allow = HeaderValue::try_from(allow).expect("methods are header values");
            let inserted = router.insert(path.pattern, path);
            inserted.expect("no two paths match the same");
        }
        Table(router)
    }

    pub fn find(&self, path: &str) -> Option<(&Path, Parameters)> {
        let found = self.0.at(path).ok()?;
        let parameters = found.params.iter();
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Some((found.value, Parameters(parameters.collect())))
    }
}

impl Path {
    pub fn route(&self, method: &Method) -> Option<&Route> {
        let mut routes = self.routes.iter();
        routes.find(|route| route.methods().any(|known| known == method))
    }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;
    use crate::http::answers::{ErrorFormat, text};
    use crate::http::route::open;
    use crate::http::routes::ROUTES;

    fn route(method: Method, path: &'static str, effect: Effect) -> Route {
        let handler = open(async |_| Ok(text(StatusCode::OK, "")));
        Route::new(method, path, effect, None, ErrorFormat::Text, handler)
    }

    #[test]
    fn a_path_has_several_methods() {
        let table = Table::new([
            route(Method::GET, "/things/{id}", Effect::Reads),
            route(Method::GET, "/things", Effect::Reads),
            route(Method::DELETE, "/things/{id}", Effect::ChangesState),
            route(Method::GET, "/changes", Effect::ChangesState),
        ]);
        let allow = |path| table.find(path).map(|(path, _)| path.allow.clone());
        for (path, expected) in [
            ("/things/7", Some("GET, HEAD, DELETE, OPTIONS")),
            ("/things", Some("GET, HEAD, OPTIONS")),
            ("/changes", Some("GET, OPTIONS")),
            ("/things/", None),
            ("/things/7/", None),
            ("/Things", None),
            ("", None),
            ("*", None),
        ] {
            let allow = allow(path);
            let allow = allow.as_ref().map(|allow| allow.to_str().expect("text"));
            assert_eq!(allow, expected, "{path}");
        }
        let (path, parameters) = table.find("/things/a%20b").expect("found");
        assert_eq!(parameters.get("id"), "a%20b");
        assert_eq!(path.pattern, "/things/{id}");
        for (method, expected) in [
            (Method::GET, Some(Method::GET)),
            (Method::HEAD, Some(Method::GET)),
            (Method::DELETE, Some(Method::DELETE)),
            (Method::PUT, None),
        ] {
            let found = path.route(&method).map(|route| route.method.clone());
            assert_eq!(found, expected, "{method}");
        }
    }

    #[test]
    fn the_routes_are_a_table() {
        assert!(ROUTES.find("/misc/ping").is_some());
    }

    #[test]
    #[should_panic(expected = "changes state")]
    fn methods_that_change_state_have_to_say_so() {
        Table::new([route(Method::DELETE, "/things", Effect::Reads)]);
    }
}
