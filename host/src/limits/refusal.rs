//! Why the server refuses something to a client: for security, or because of a limit.

/// Declares the enum, `ALL` and `name` from one line for each reason.
macro_rules! refusals {
    ($($refusal:ident $name:literal,)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Refusal {
            $($refusal,)*
        }

        impl Refusal {
            pub const ALL: &[Refusal] = &[$(Refusal::$refusal,)*];

            /// Its name in the log and the metrics.
            pub fn name(self) -> &'static str {
                match self {
                    $(Refusal::$refusal => $name,)*
                }
            }
        }
    };
}

refusals! {
    Token "token",
    Key "key",
    RequestsOfAddress "requests_of_address",
    Origin "origin",
    Login "login",
    Registration "registration",
    Session "session",
    Export "export",
    Flood "flood",
    Sockets "sockets",
    SocketsOfUser "sockets_of_user",
    SocketsOfAddress "sockets_of_address",
    Unfinished "unfinished",
    UnreadAnswers "unread_answers",
    ConnectionsOfAddress "connections_of_address",
}
