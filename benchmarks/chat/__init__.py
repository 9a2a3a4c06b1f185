"""The case `chat`: messages of a chat, the questions that a chat's users put, and two servers that answer them.

    words      a made-up vocabulary with natural frequencies
    messages   the messages, in blocks, by seed
    spool      messages as files of ready requests, made before anything is measured
    questions  what is asked, of Twinlog and in SQL, with parameters drawn from the messages
    stores     Twinlog and PostgreSQL as this case uses them: loading, waiting for indexes, sizes, asking
    statements prepared statements of PostgreSQL over a plain socket
    writer     a process of its own that writes at a steady rate
    timing     executions of one question, and their percentiles
"""
