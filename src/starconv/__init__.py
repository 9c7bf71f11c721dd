"""starconv"""
