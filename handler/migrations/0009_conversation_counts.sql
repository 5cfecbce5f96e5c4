-- A row for each user with rows in members, and how many these are, so that nobody has to walk over them to find out
-- whether the user may be put into one more conversation. It is no column of users, whose rows are long: ten thousand new
-- members of a conversation would change as many pages.
create table conversation_counts (
    user_id       integer primary key,
    conversations integer not null
);

-- The first backend's members may have any values.
insert into conversation_counts (user_id, conversations)
select user_id, count(*) from members where typeof(user_id) = 'integer' group by user_id;

-- Triggers keep it, so that it is right whatever statement or program changes members.
create trigger members_are_counted after insert on members when typeof(new.user_id) = 'integer'
begin
    insert into conversation_counts (user_id, conversations) values (new.user_id, 1)
    on conflict (user_id) do update set conversations = conversations + 1;
end;

create trigger former_members_are_not_counted after delete on members
begin
    update conversation_counts set conversations = conversations - 1 where user_id = old.user_id;
    delete from conversation_counts where user_id = old.user_id and conversations < 1;
end;
