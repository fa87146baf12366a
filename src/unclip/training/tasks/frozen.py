"""provisional"""
def check_stored(*args): pass
