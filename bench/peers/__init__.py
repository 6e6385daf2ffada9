"""hotmend beside other systems that change running code: the same program, the same measure, one run.

`sources` fetches and builds them, `engines` makes the program and its patch as each of them wants it, `measure`
compares.
"""
