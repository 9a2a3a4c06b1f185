"""stub"""
class GroupSpec:
    pass
def group(): ...
