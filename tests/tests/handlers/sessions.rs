//! The operations on sessions: what they store, whom they tell, and what they refuse.

use handler::account::change_password::ChangePassword;
use handler::account::login_id::{EndedLogins, LoginId, SessionId};
use handler::account::open_login::{
    CheckLogins, CheckedLogins, FindExpired, FindLogin, FoundLogin, LOGINS_AT_ONCE, OpenLogin,
    SeeSessions, SweepSessions,
};
use handler::account::session::{
    EndSession, ListSessions, RefreshSession, SESSIONS_MAX, StartSession, USER_AGENT_BYTES_MAX,
};
use handler::account::token::Claim;
use handler::presence::Connected;
use handler::{Error, Output};
use tests::World;
use tests::world::NOW;

fn id(number: u8) -> SessionId {
    SessionId::new([number; 8])
}

/// A session of alice, whose password hash is "none" in every world.
fn start(number: u8) -> StartSession {
    StartSession {
        id: id(number),
        user_id: 1,
        password_hash: "none".into(),
        lifetime_seconds: 3600,
        user_agent: "a test".into(),
    }
}

fn claim(username: &str, login: LoginId) -> FindLogin {
    let username = username.into();
    FindLogin {
        claim: Claim {
            username,
            login,
            fullname: None,
        },
    }
}

fn unauthorized<T>() -> Result<T, Error> {
    Err(Error::Unauthorized("invalid login-token".into()))
}

fn ended(sessions: &[u8], tokens_until: Option<i64>) -> Vec<Output> {
    vec![Output::EndLogins(EndedLogins {
        user_id: 1,
        sessions: sessions.iter().map(|number| id(*number)).collect(),
        tokens_until,
    })]
}

#[tokio::test]
async fn a_session_is_started_listed_refreshed_and_ended() {
    let world = World::new().await;
    let long = "ü".repeat(USER_AGENT_BYTES_MAX);
    let started = StartSession {
        user_agent: format!("\0{long}"),
        ..start(1)
    };
    assert_eq!(world.run("", &started).await, (Ok(()), vec![]));
    assert_eq!(world.run("", &start(2)).await, (Ok(()), vec![]));
    let list = ListSessions {
        current: LoginId::of_session(id(1)),
    };
    let sessions = world.run("alice", &list).await.0.expect("a list");
    let shown: Vec<_> = sessions
        .iter()
        .map(|of| (of.id.as_str(), of.created_at, of.last_seen, of.current))
        .collect();
    let expected = [
        ("0202020202020202", NOW, NOW, false),
        ("0101010101010101", NOW, NOW, true),
    ];
    assert_eq!(shown, expected);
    // No half of a character.
    let kept = format!("\0{}", "ü".repeat((USER_AGENT_BYTES_MAX - 1) / 2));
    assert_eq!(sessions[1].user_agent, kept);
    let of_bob = world.run("bob", &list).await.0;
    assert_eq!(of_bob, Ok(vec![]));

    let mut later = world.context("alice").await;
    later.now += 1000;
    let refresh = RefreshSession { id: id(1) };
    assert_eq!(world.run_as(&later, &refresh).await.0, Ok(3600));
    let row = "select last_seen + ends_at from sessions order by number limit 1";
    assert_eq!(world.integer(row).await, 2 * (NOW + 1000) + 3600);
    assert_eq!(world.run("bob", &refresh).await.0, unauthorized());

    let end = EndSession { id: id(1) };
    let missing = Err(Error::NotFound("no such session".into()));
    assert_eq!(world.run("bob", &end).await, (missing.clone(), vec![]));
    assert_eq!(world.run("alice", &end).await, (Ok(()), ended(&[1], None)));
    assert_eq!(world.run("alice", &end).await, (missing, vec![]));
    assert_eq!(world.run("alice", &refresh).await.0, unauthorized());
}

#[tokio::test]
async fn a_login_with_a_password_that_was_changed_meanwhile_starts_nothing() {
    let world = World::new().await;
    world.run("", &start(1)).await.0.expect("a session");
    world.run("", &start(2)).await.0.expect("a session");
    let change = |old: &str, new: &str| ChangePassword {
        old_hash: old.into(),
        new_hash: new.into(),
        kept: Some(id(1)),
    };
    let conflict = Error::Conflict("the password was changed at the same time".into());
    let stale = world.run("alice", &change("stale", "lost")).await;
    assert_eq!(stale, (Err(conflict), vec![]));
    let changed = world.run("alice", &change("none", "new")).await;
    assert_eq!(changed, (Ok(()), ended(&[2], Some(NOW))));
    let (outcome, outbox) = world.run("", &start(3)).await;
    let mismatch = Error::Unauthorized("mismatch username and password".into());
    assert_eq!((outcome, outbox), (Err(mismatch), vec![]));
    assert_eq!(world.integer("select count(*) from sessions").await, 1);
}

#[tokio::test]
async fn a_login_holds_until_it_has_ended() {
    let world = World::new().await;
    world.run("", &start(1)).await.0.expect("a session");
    let change = "update users set tokens_from = 1000 where username = 'bob'";
    world.db.execute(change, ()).await.expect("changed");
    let (session, token) = (|number| LoginId::of_session(id(number)), LoginId::of_token);
    for (username, login, holds) in [
        ("alice", session(1), true),
        ("alice", session(2), false),
        ("bob", session(1), false),
        ("alice", token(None), true),
        ("alice", token(Some(1)), true),
        ("bob", token(None), false),
        ("bob", token(Some(999)), false),
        ("bob", token(Some(1000)), false),
        ("bob", token(Some(1001)), true),
    ] {
        let found = world.run("", &claim(username, login)).await.0;
        assert_eq!(found.is_ok(), holds, "{username} {login:?}");
        let connected = Connected {
            username: username.into(),
            login,
            host_id: "local".into(),
        };
        let before = world.dump().await;
        let (outcome, outbox) = world.run("", &connected).await;
        assert_eq!(outcome.is_ok(), holds, "{username} {login:?}: {outcome:?}");
        if !holds {
            assert_eq!(outcome, unauthorized());
            assert_eq!((outbox, world.dump().await), (vec![], before));
        }
        let open = OpenLogin {
            user_id: if username == "alice" { 1 } else { 2 },
            username: username.into(),
            login,
        };
        let logins = vec![open.clone()];
        let checked = world.run("", &CheckLogins { logins }).await.0;
        let ended = checked.expect("checked").ended;
        assert_eq!(ended == [open], !holds, "{username} {login:?}: {ended:?}");
    }
    let nobody = world.run("", &claim("nobody", token(None))).await.0;
    assert_eq!(nobody, unauthorized());
}

#[tokio::test]
async fn a_session_is_seen_once_an_hour_and_kept_while_it_is_open() {
    let world = World::new().await;
    world.run("", &start(1)).await.0.expect("a session");
    let login = LoginId::of_session(id(1));
    let mut ctx = world.context("").await;
    let open = OpenLogin {
        user_id: 1,
        username: "alice".into(),
        login,
    };
    let check = CheckLogins { logins: vec![open] };
    let seen = "select last_seen from sessions";
    for (now, is_late) in [(NOW + 3599, false), (NOW + 3600, true)] {
        ctx.now = now;
        let found = world.run_as(&ctx, &claim("alice", login)).await.0;
        let expected = FoundLogin {
            user_id: 1,
            is_seen_late: is_late,
        };
        assert_eq!(found, Ok(expected));
        let checked = world.run_as(&ctx, &check).await.0;
        let expected = CheckedLogins {
            ended: vec![],
            seen_late: if is_late { vec![id(1)] } else { vec![] },
        };
        assert_eq!(checked, Ok(expected));
        let see = SeeSessions { ids: vec![id(1)] };
        world.run_as(&ctx, &see).await.0.expect("seen");
        let expected = if is_late { now } else { NOW };
        assert_eq!(world.integer(seen).await, expected);
    }
    // Its token has expired; the row stays, because the session was seen.
    ctx.now = NOW + 2 * 3600;
    assert_eq!(world.run_as(&ctx, &FindExpired).await.0, Ok(vec![]));
    let connected = Connected {
        username: "alice".into(),
        login,
        host_id: "local".into(),
    };
    world.run_as(&ctx, &connected).await.0.expect("connected");
    assert_eq!(world.integer(seen).await, ctx.now);
    ctx.now += 3 * 3600;
    assert_eq!(world.run_as(&ctx, &FindExpired).await.0, Ok(vec![1]));
    // It was seen since it was found.
    let mut earlier = ctx.clone();
    earlier.now -= 1;
    let sweep = SweepSessions { numbers: vec![1] };
    world.run_as(&earlier, &sweep).await.0.expect("swept");
    assert_eq!(world.integer("select count(*) from sessions").await, 1);
    world.run_as(&ctx, &sweep).await.0.expect("swept");
    assert_eq!(world.integer("select count(*) from sessions").await, 0);
}

/// Other hosts, whose clocks are right, may serve the same database.
#[tokio::test]
async fn a_host_whose_clock_is_ahead_ends_nothing_of_others() {
    let world = World::new().await;
    let now = world.integer("select unixepoch()").await;
    let mut right = world.context("alice").await;
    right.now = now;
    world.run_as(&right, &start(1)).await.0.expect("a session");
    let mut ahead = right.clone();
    ahead.now += 4 * 3600;
    assert_eq!(world.run_as(&ahead, &FindExpired).await.0, Ok(vec![]));
    let sweep = SweepSessions { numbers: vec![1] };
    world.run_as(&ahead, &sweep).await.0.expect("nothing");
    let list = ListSessions {
        current: LoginId::of_session(id(1)),
    };
    let listed = world.run_as(&ahead, &list).await.0.expect("a list");
    assert_eq!(listed.len(), 1);
    // Tokens without a session that are made from now on hold.
    let change = ChangePassword {
        old_hash: "none".into(),
        new_hash: "new".into(),
        kept: None,
    };
    world.run_as(&ahead, &change).await.0.expect("changed");
    let token = claim("alice", LoginId::of_token(Some(now + 60)));
    assert!(world.run_as(&right, &token).await.0.is_ok());
}

#[tokio::test]
async fn what_one_operation_finds_of_a_million_sessions_is_bounded() {
    let world = World::new().await;
    let fill = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 5000)
        insert into sessions (id, user_id, lifetime, created_at, last_seen, ends_at, user_agent)
        select i, 1 + i % 2, 60, 0, 0, 60, '' from n";
    world.db.execute(fill, ()).await.expect("filled");
    let found = world.run("", &FindExpired).await.0.expect("found");
    assert_eq!(found.len(), LOGINS_AT_ONCE);
    // More than a user may have are there if another program has stored them: all but the last go.
    world.run("", &start(1)).await.0.expect("a session");
    let count = "select count(*) from sessions where user_id = 1";
    assert_eq!(world.integer(count).await, SESSIONS_MAX);
}
