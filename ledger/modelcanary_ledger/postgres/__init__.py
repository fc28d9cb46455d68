"""The store in PostgreSQL: several ledgers over the same tables. Plain SQL, rows and their locks; no extension, no
superuser, no advisory locks, no notifications, so that what speaks PostgreSQL and is distributed can be asked too.
"""
