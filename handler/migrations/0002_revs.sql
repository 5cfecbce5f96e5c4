-- What a client needs to find out what it missed, and to send again without sending twice.

-- rev: raised by one for each lasting change in the conversation, its creation being the first. Every change that a
-- client keeps carries the rev it was made with, so "what changed since" is a range of revs.
-- activity: orders a user's conversations by their latest message. It is the id of that message or, before there is one,
-- of the latest message anywhere when the conversation was made.
alter table conversations add column rev integer not null default 1;
alter table conversations add column activity integer not null default 0;

-- read_id: the member has read the messages up to this id.
alter table members add column read_id integer not null default 0;

-- rev: that of the latest change of this message.
-- client_id: what the sender calls the message, so that the same one sent again is found.
alter table messages add column rev integer not null default 0;
alter table messages add column client_id text;

-- Messages of the first backend were sent in the order of their ids.
update messages set rev = numbered.rev
from (select id, row_number() over (partition by conversation_id order by id) as rev from messages) as numbered
where numbered.id = messages.id;

update conversations set rev = latest.rev, activity = latest.id
from (select conversation_id, max(rev) as rev, max(id) as id from messages group by conversation_id) as latest
where latest.conversation_id = conversations.id;

-- "What changed in a conversation since."
create index messages_by_rev on messages (conversation_id, rev);

-- "Was this sent before?" Holds only messages that have a client_id.
create unique index messages_by_client_id on messages (conversation_id, sender_id, client_id) where client_id is not null;
