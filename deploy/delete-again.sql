-- After a restore, deletes the accounts again that were deleted after the backup was made. `old` is
-- the data from before the restore. README.md, "Restore", says how to run this.
pragma secure_delete = on;
begin immediate;
insert into main.deleted_accounts (user_id, username, skeleton, deleted_at, due_at)
select gone.user_id, gone.username, gone.skeleton, gone.deleted_at, 0
from old.deleted_accounts as gone join main.users as u on u.id = gone.user_id and u.username = gone.username;
delete from main.users where id in (select user_id from main.deleted_accounts);
commit;
