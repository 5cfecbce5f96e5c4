-- What changes after it was made: messages, and who is in a conversation.

-- messages.rev is the rev that a message was made with; it orders the history and counts the unread. changed_rev: that of the
-- latest change of the message since, null until there is one. Clients see the later of the two.
alter table messages add column changed_rev integer;

-- "Which messages of a conversation have changed since." Holds only those that have changed: a send does not touch it.
create index messages_by_changed_rev on messages (conversation_id, changed_rev) where changed_rev is not null;

-- members_rev: the conversation's rev at the latest change of its members, by which a host knows whether it has heard of all
-- changes. The members of a conversation that was there before have not changed since it was made.
alter table conversations add column members_rev integer not null default 1;
