-- Within a conversation the ids of messages rise with their revs, so one index serves both questions: "how many unread
-- messages of a conversation mention a user", and "which messages of a conversation, before this one, mention a user".
-- With it, nobody looks at mentions in conversations that the user has left. mentions.rev is for the way back.
drop index mentions_by_conversation;
create index mentions_by_conversation on mentions (user_id, conversation_id, message_id);
