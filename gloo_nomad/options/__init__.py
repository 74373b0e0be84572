"""One file per option. An option is found by walking this package; adding one edits no list.

``hooks`` says what a module may define, ``stages`` orders filters, ``registry`` finds and checks the modules.
"""
