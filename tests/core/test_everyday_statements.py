"""The everyday statements of web applications stay free: read as harmless, they cost no reset.

As Django, SQLAlchemy, Flask's tutorials and WordPress send them. `#` marks what costs something, and what.
"""

from __future__ import annotations

import pytest

from pymysqlpool._driver.statements import AUTOCOMMIT, DATABASE, INSERT_ID, NOTHING, READ_ONLY, STATE, reader_for

# ruff: noqa: E501
DJANGO = r"""
SELECT `auth_user`.`id`, `auth_user`.`password`, `auth_user`.`last_login`, `auth_user`.`is_superuser` FROM `auth_user` WHERE `auth_user`.`id` = 1 LIMIT 21
SELECT (1) AS `a` FROM `django_session` WHERE `django_session`.`session_key` = 'abcdefghijklmnopqrstuvwxyz012345' LIMIT 1
SELECT `django_session`.`session_key`, `django_session`.`session_data`, `django_session`.`expire_date` FROM `django_session` WHERE (`django_session`.`expire_date` > '2026-01-01 10:00:00.123456' AND `django_session`.`session_key` = 'x') LIMIT 21
INSERT INTO `blog_post` (`title`, `body`, `author_id`, `created`) VALUES ('It\'s "new"', 'a `body`; -- with /* all */ @kinds # of things', NULL, '2026-01-01 10:00:00')
INSERT INTO `blog_tag` (`name`) VALUES ('a'), ('b'), ('c')
INSERT IGNORE INTO `blog_post_tags` (`post_id`, `tag_id`) VALUES (1, 2), (1, 3)
INSERT INTO `blog_tag` (`name`, `n`) VALUES ('a', 1) AS new ON DUPLICATE KEY UPDATE `name` = `new`.`name`, `n` = `new`.`n`
INSERT INTO `blog_tag` (`name`, `n`) VALUES ('a', 1) ON DUPLICATE KEY UPDATE `n` = VALUES(`n`)
UPDATE `blog_post` SET `title` = 'x', `views` = (`blog_post`.`views` + 1), `price` = 1.50 WHERE `blog_post`.`id` = 5
UPDATE `blog_post` SET `kind` = CASE WHEN (`blog_post`.`id` = 1) THEN 'a' WHEN (`blog_post`.`id` = 2) THEN 'b' ELSE NULL END WHERE `blog_post`.`id` IN (1, 2)
DELETE FROM `blog_post` WHERE `blog_post`.`id` IN (1, 2, 3)
DELETE FROM `django_session` WHERE `django_session`.`expire_date` < '2026-01-01 00:00:00'
SELECT COUNT(*) AS `__count` FROM `blog_post`
SELECT COUNT(DISTINCT `blog_post`.`author_id`) AS `n`, AVG(`blog_post`.`views`) AS `a`, MAX(`blog_post`.`id`) AS `m` FROM `blog_post`
SELECT COUNT(*) FROM (SELECT DISTINCT `blog_post`.`id` AS `col1` FROM `blog_post`) subquery
SELECT `blog_post`.`id` FROM `blog_post` INNER JOIN `auth_user` ON (`blog_post`.`author_id` = `auth_user`.`id`) LEFT OUTER JOIN `t` T3 ON (`t`.`id` = T3.`id`) WHERE (`auth_user`.`username` LIKE '%ann%' AND NOT (`blog_post`.`draft` = 1 AND `blog_post`.`draft` IS NOT NULL)) ORDER BY `blog_post`.`created` DESC LIMIT 10 OFFSET 20
SELECT `blog_post`.`title` FROM `blog_post` WHERE `blog_post`.`title` LIKE BINARY '%x%' AND `blog_post`.`title` REGEXP BINARY '^a'
SELECT `blog_post`.`title` FROM `blog_post` WHERE REGEXP_LIKE(`blog_post`.`title`, '^a', 'c') # MySQL only
SELECT DATE(CONVERT_TZ(`blog_post`.`created`, 'UTC', 'Europe/Berlin')) AS `d`, EXTRACT(YEAR FROM `blog_post`.`created`) FROM `blog_post`
SELECT CAST(DATE_FORMAT(`blog_post`.`created`, '%Y-%m-01') AS DATE) AS `month`, COUNT(`blog_post`.`id`) AS `c` FROM `blog_post` GROUP BY 1 ORDER BY NULL
SELECT COALESCE(`a`.`x`, 0) + IFNULL(`a`.`y`, 1), CONCAT_WS('', LOWER(`a`.`z`), UPPER('b')), GREATEST(1, 2), `a`.`n` DIV 2 FROM `a`
SELECT JSON_EXTRACT(`a`.`data`, '$."key"[0]') AS `v` FROM `a` WHERE JSON_CONTAINS(`a`.`data`, '1', '$.x') AND JSON_UNQUOTE(JSON_EXTRACT(`a`.`data`, '$.y')) = 'z'
SELECT `a`.`id`, ROW_NUMBER() OVER (PARTITION BY `a`.`k` ORDER BY `a`.`id`) AS `n`, SUM(`a`.`v`) OVER (ORDER BY `a`.`id` ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) FROM `a`
SELECT `a`.`id` FROM `a` WHERE EXISTS(SELECT 1 AS `a` FROM `b` U0 WHERE U0.`a_id` = (`a`.`id`) LIMIT 1) FOR UPDATE
SELECT `a`.`id` FROM `a` WHERE `a`.`id` = 1 LIMIT 21 FOR UPDATE SKIP LOCKED
(SELECT `a`.`id` AS `col1` FROM `a`) UNION (SELECT `b`.`id` AS `col1` FROM `b`) ORDER BY `col1` ASC
SELECT VERSION(), @@sql_mode, @@default_storage_engine, @@sql_auto_is_null, @@lower_case_table_names, CONVERT_TZ('2001-01-01 01:00:00', 'UTC', 'UTC') IS NOT NULL
SHOW FULL TABLES
SELECT table_name, table_type, table_comment FROM information_schema.tables WHERE table_schema = DATABASE()
INSERT INTO `django_migrations` (`app`, `name`, `applied`) VALUES ('blog', '0001_initial', '2026-01-01 10:00:00')
CREATE TABLE `blog_post` (`id` bigint AUTO_INCREMENT NOT NULL PRIMARY KEY, `title` varchar(200) NOT NULL, `price` numeric(10, 2) NULL, `created` datetime(6) NOT NULL)
ALTER TABLE `blog_post` ADD CONSTRAINT `blog_post_author_id_fk` FOREIGN KEY (`author_id`) REFERENCES `auth_user` (`id`)
ALTER TABLE `blog_post` ADD COLUMN `n` integer UNSIGNED DEFAULT 0 NOT NULL CHECK (`n` >= 0)
CREATE INDEX `blog_post_created_idx` ON `blog_post` (`created` DESC, `id`)
SAVEPOINT `s140_x1`
RELEASE SAVEPOINT `s140_x1`
ROLLBACK TO SAVEPOINT `s140_x1`
SELECT 1
SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; # STATE
INSERT INTO `a` (`x`) VALUES ('y') RETURNING `a`.`id` # INSERT_ID
"""

SQLALCHEMY = r"""
SELECT users.id AS users_id, users.name AS users_name FROM users WHERE users.name = 'ann' AND users.age > 3.5e1
SELECT users.id, count(addresses.id) AS n \nFROM users LEFT OUTER JOIN addresses ON users.id = addresses.user_id GROUP BY users.id \nHAVING count(addresses.id) > 1
INSERT INTO users (name, data, created) VALUES ('O\'Neil', _binary'\0\Z\'x', now())
INSERT INTO users (name) VALUES ('a') ON DUPLICATE KEY UPDATE name = VALUES(name), n = (n + 1)
UPDATE users SET name=concat(users.name, ' x'), flag=true WHERE users.id = 1
DELETE FROM users WHERE users.id = 1
SELECT DATABASE()
SELECT @@sql_mode
SELECT @@lower_case_table_names
SELECT @@transaction_isolation
SELECT @@version, @@tx_isolation
SELECT 1
SELECT CAST('test plain returns' AS CHAR(60)) AS anon_1
SELECT anon_1.id FROM (SELECT users.id AS id, row_number() OVER (PARTITION BY users.k ORDER BY users.id DESC) AS rn FROM users) AS anon_1 WHERE anon_1.rn <= 3
WITH RECURSIVE tree(id, depth) AS \n(SELECT nodes.id AS id, 0 AS depth FROM nodes WHERE nodes.parent_id IS NULL UNION ALL SELECT n.id, tree.depth + 1 FROM nodes AS n INNER JOIN tree ON n.parent_id = tree.id)\n SELECT tree.id FROM tree
SELECT users.id FROM users WHERE users.id IN (1, 2, 3) AND users.name NOT IN ('a', 'b') ORDER BY lower(users.name) LIMIT 5, 10
SELECT users.id FROM users WHERE (users.a, users.b) IN ((1, 2), (3, 4))
SELECT EXISTS (SELECT 1 FROM users WHERE users.id = 1) AS e
SELECT users.id FROM users WHERE MATCH (users.bio) AGAINST ('pool' IN BOOLEAN MODE)
SELECT group_concat(DISTINCT tags.name ORDER BY tags.name SEPARATOR ', ') AS g FROM tags
SELECT date_format(orders.at, '%%Y-%%m') AS m, sum(orders.total) FROM orders WHERE orders.at >= date_sub(curdate(), INTERVAL 30 DAY) GROUP BY m
SELECT if(a.x > 0, 'y', 'n'), coalesce(a.z, ''), round(a.v, 2), CURRENT_TIMESTAMP FROM a
DESCRIBE `users`
SHOW CREATE TABLE `users`
SHOW VARIABLES LIKE 'sql_mode'
BEGIN
COMMIT
ROLLBACK
CREATE TABLE users (\nid INTEGER NOT NULL AUTO_INCREMENT, \nname VARCHAR(30), \nPRIMARY KEY (id), \nUNIQUE (name)\n)
DROP TABLE users
SET NAMES utf8mb4 # STATE
"""

FLASK_AND_PLAIN = r"""
SELECT id FROM user WHERE username = 'ann'
SELECT p.id, title, body, created, author_id, username FROM post p JOIN user u ON p.author_id = u.id ORDER BY created DESC
INSERT INTO user (username, password) VALUES ('ann', 'scrypt:32768:8:1$abc$0123456789abcdef')
INSERT INTO post (title, body, author_id) VALUES ('a', 'line\r\nline', 1)
UPDATE post SET title = 'a', body = 'b' WHERE id = 1
DELETE FROM post WHERE id = 1
SELECT LAST_INSERT_ID()
SELECT `id`, `password` FROM `users` WHERE `email`='webmaster@python.org'
SELECT * FROM users;
START TRANSACTION
START TRANSACTION READ ONLY
SET autocommit = 0 # AUTOCOMMIT
SET AUTOCOMMIT=1 # AUTOCOMMIT
USE shop # DATABASE
use `shop`; # DATABASE
REPLACE INTO kv (k, v) VALUES ('a', 0x4142)
UPDATE counters SET id = LAST_INSERT_ID(id + 1) # INSERT_ID
SELECT SLEEP(0)
SELECT CONNECTION_ID(), USER(), VERSION()
EXPLAIN SELECT * FROM post WHERE id = 1
SELECT UUID(), NOW(6), UNIX_TIMESTAMP(), RAND()
TRUNCATE TABLE log
SELECT COUNT(*) FROM post WHERE created > NOW() - INTERVAL 1 DAY
SELECT ST_AsText(location) FROM places WHERE ST_Contains(area, ST_GeomFromText('POINT(1 2)'))
SELECT SUBSTRING(a, 1, 5), LENGTH(b), TRIM(BOTH ' ' FROM c), POSITION('x' IN d), SUBSTRING_INDEX(e, ',', 1) FROM t
/* route: shop.views.cart */ SELECT 1
SELECT * FROM t WHERE a = 1 -- by request 4711
"""

WORDPRESS = r"""
SELECT option_name, option_value FROM wp_options WHERE autoload = 'yes'
SELECT option_value FROM wp_options WHERE option_name = 'siteurl' LIMIT 1
SELECT SQL_CALC_FOUND_ROWS wp_posts.ID FROM wp_posts WHERE 1=1 AND ((wp_posts.post_type = 'post' AND (wp_posts.post_status = 'publish' OR wp_posts.post_status = 'private'))) ORDER BY wp_posts.post_date DESC LIMIT 0, 10
SELECT FOUND_ROWS()
SELECT t.*, tt.*, tr.object_id FROM wp_terms AS t INNER JOIN wp_term_taxonomy AS tt ON t.term_id = tt.term_id WHERE tt.taxonomy IN ('category', 'post_tag') ORDER BY t.name ASC
SELECT post_id, meta_key, meta_value FROM wp_postmeta WHERE post_id IN (1,2,3) ORDER BY meta_id ASC
INSERT INTO `wp_options` (`option_name`, `option_value`, `autoload`) VALUES ('_transient_x', 'a:1:{s:1:\"a\";i:1;}', 'no') ON DUPLICATE KEY UPDATE `option_name` = VALUES(`option_name`), `option_value` = VALUES(`option_value`)
UPDATE `wp_options` SET `option_value` = '1700000000.1' WHERE `option_name` = 'x'
DELETE a, b FROM wp_options a, wp_options b WHERE a.option_name LIKE '\\_transient\\_%' AND b.option_name = CONCAT( '_transient_timeout_', SUBSTRING( a.option_name, 12 ) ) AND b.option_value < 1700000000
SELECT YEAR(post_date) AS `year`, MONTH(post_date) AS `month`, count(ID) as posts FROM wp_posts GROUP BY YEAR(post_date), MONTH(post_date) ORDER BY post_date DESC
SHOW FULL COLUMNS FROM `wp_options`
SHOW TABLES LIKE 'wp\_%'
SELECT * FROM wp_users WHERE user_login = 'admin' LIMIT 1
SELECT COUNT(NULLIF(`meta_value` LIKE '%\"administrator\"%', false)), COUNT(*) FROM wp_usermeta
DESCRIBE wp_posts;
"""

COSTS = {"STATE": STATE, "INSERT_ID": INSERT_ID, "AUTOCOMMIT": AUTOCOMMIT, "DATABASE": DATABASE}
SERVERS = ("8.0.36", "9.7.0", "10.6.16-MariaDB", "5.5.5-10.11.6-MariaDB-1")


def statements() -> list[tuple[str, int | None]]:
    """The texts, each with what it costs: None where the servers differ."""
    found: list[tuple[str, int | None]] = []
    for line in (DJANGO + SQLALCHEMY + FLASK_AND_PLAIN + WORDPRESS).strip().split("\n"):
        text, mark, cost = line.rpartition(" # ")
        if mark:
            found.append((text, COSTS.get(cost)))
        elif line:
            found.append((line, NOTHING))
    return found


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("charset", ["utf8mb4", "latin1", "gbk"])
def test_everyday_statements_cost_no_reset(server: str, charset: str) -> None:
    reader = reader_for(charset, server)
    read = {text: reader.read(text.replace(r"\n", "\n").encode()) & ~READ_ONLY for text, _ in statements()}
    assert [text for text, cost in statements() if cost is not None and read[text] != cost] == []


@pytest.mark.parametrize("charset", ["utf8mb4", "latin1"])
def test_values_in_any_script_cost_no_reset(charset: str) -> None:
    reader = reader_for(charset, "10.11.6-MariaDB")
    for value in ("Zoë", "naïve l\\'été\\n", "Ærø", "\xa0", "ÿ\\\\"):
        assert (
            reader.read(f"INSERT INTO `t` (`a`, `b`) VALUES ('{value}', 1)".encode(charset.replace("mb4", "")))
            == NOTHING
        )
    assert reader_for("gbk", "8.0.36").read("SELECT * FROM t WHERE a = '中文' LIMIT 1".encode("gbk")) == NOTHING
    assert reader_for("utf8mb4", "8.0.36").read("SELECT `été` AS né FROM t".encode()) == NOTHING


def test_a_function_of_one_server_may_be_stored_code_on_another() -> None:
    text = b"SELECT REGEXP_LIKE(a, '^b'), ANY_VALUE(c) FROM t"
    assert reader_for("utf8mb4", "8.0.36").read(text) == NOTHING
    assert reader_for("utf8mb4", "5.7.44").read(text) == STATE
    assert reader_for("utf8mb4", "10.11.6-MariaDB").read(text) == STATE
    assert reader_for("utf8mb4", "9.5.0").read(b"SELECT MD5('a')") == NOTHING
    assert reader_for("utf8mb4", "9.6.0").read(b"SELECT MD5('a')") == STATE
