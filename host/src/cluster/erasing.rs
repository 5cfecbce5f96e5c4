//! Erases what deleted accounts still have in the database, behind their deletion.

use std::time::Duration;

use handler::account::erase::{ErasePiece, FindConversationsToLeave, FindUnerased, Unerased};
use handler::conversation::deleted_member::NoteDeletedMember;
use handler::conversation::leave::LeaveConversation;
use handler::{Context, Error};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::clock;
use crate::store::Store;

/// Time between two looks for accounts that a host has not finished because it was stopped.
const PERIOD: Duration = Duration::from_secs(10);
/// The pause after each piece, so that many pieces do not keep the database busy.
const PAUSE: Duration = Duration::from_millis(10);

/// Erases accounts as soon as they are `deleted` on this host. If another host has deleted one and
/// has not finished it, this one goes on after a while.
pub async fn erase_deleted_accounts(store: &Store, deleted: &Notify) {
    loop {
        // The store has logged a failure.
        while let Ok(Some(account)) = store.run_now(FindUnerased).await {
            if erase(store, &account).await.is_err() {
                break;
            }
        }
        let _ = timeout(PERIOD, deleted.notified()).await;
    }
}

/// Fails if the database cannot do it now. The account is found again later.
async fn erase(store: &Store, account: &Unerased) -> Result<(), Error> {
    let user_id = account.user_id;
    while store.run_now(ErasePiece { user_id }).await? {
        let conversations = store.run_now(FindConversationsToLeave { user_id });
        for (conversation_id, is_direct) in conversations.await? {
            let ctx = Context::new(user_id, account.username.clone(), clock::now());
            match is_direct {
                true => {
                    store
                        .run(ctx, NoteDeletedMember { conversation_id })
                        .await?
                }
                false => {
                    let leave = LeaveConversation::of_deleted(conversation_id);
                    match store.run(ctx, leave).await {
                        // Another host has done it.
                        Ok(_) | Err(Error::NotFound(_)) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        sleep(PAUSE).await;
    }
    Ok(())
}
