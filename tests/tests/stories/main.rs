//! Clients of hosts that run in the test's own process, and what a client's frames decode to.

/// Runs the same stories on a file, on a remote database, and on two hosts.
macro_rules! in_every_form {
    ($($story:ident)*) => {
        in_every_form! { @ file File $($story)* }
        in_every_form! { @ remote Remote $($story)* }
        in_every_form! { @ cluster Cluster $($story)* }
    };
    (@ $module:ident $form:ident $($story:ident)*) => {
        mod $module {
            $(
                #[tokio::test]
                async fn $story() {
                    super::$story(tests::Form::$form).await;
                }
            )*
        }
    };
}

mod account;
mod frames;
mod http;
mod limits;
mod logins;
mod moderation;
mod page;
mod protocol_page;
mod stories;
